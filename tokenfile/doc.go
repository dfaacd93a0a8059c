// Package tokenfile follows a file with a credential that is replaced now and
// then, such as the token of a Pod's service account, for a program that sends
// it. It needs nothing of Kubernetes, and neither mints nor verifies tokens.
//
//	source, err := tokenfile.Open(tokenfile.InCluster)
//	...
//	go source.Run(ctx)
//	client := &http.Client{Transport: &tokenfile.Transport{Source: source}}
//
// The file is looked at when its directory says that something has happened,
// and every minute all the same: a watch dies with the mount below it, its queue
// overflows, some file systems have none, and some nodes have none left. A
// program that never calls [Source.Run] gets a token that is read again once a
// minute, when it asks for it.
//
// # What counts as a token
//
// Visible ASCII without a gap, of at most 64 KiB; white space around it is cut
// off. An empty file is none. Of a JSON web token all of it must be there: one
// whose signature is too short for its algorithm was cut off, however long ago.
//
// In a volume with the kubelet's layout, where the name leads through the link
// ..data, what is read is whole, because such files are never written twice
// (pkg/volume/util/atomic_writer.go of Kubernetes). Any other file may be in the
// middle of being rewritten, so it counts when two readings 50 ms apart are the
// same. What that can't show is a file that is written over in place, without
// being truncated, by somebody who stops in the middle for longer than that, and
// the same for a token that is no JSON web token. Replace files by renaming.
//
// While there is nothing that counts, the token that was there before goes on.
//
// # When it ends
//
// A JSON web token says itself when it ends: its deadline is the claim exp, or
// Kubernetes' warnafter where that comes first ("extended" tokens have an exp a
// year ahead). Past it, on this machine's clock, a token is handed out together
// with [ErrExpired], and what sends tokens sends none. Any other token has no
// deadline.
package tokenfile
