// Package rotation decides when a service-account token is replaced and holds
// each token until then.
//
// It does not know where tokens are written, and it does not talk to
// Kubernetes: a [Minter] does that. The parts are a [Token] that can't be
// logged by accident, the [Grant] of one token and what its lifetime really
// is, the [Policy] that says when a grant is due, and the [Manager] that hands
// out current tokens and mints each due one once.
//
// Two rules run through the package.
//
// Lifetimes are the server's, ages are ours. A lifetime is the difference of
// two moments on the API server's clock; an age counts from the moment at
// which this machine received the token, on this machine's clock. So a node
// whose clock is an hour off still rotates on time.
//
// The status counts, not exp. For a Pod-bound token of exactly 3607 s for its
// own audience the API server writes an exp one year ahead and puts the real
// deadline into the claim kubernetes.io.warnafter and into
// status.expirationTimestamp (KEP-1205, pkg/serviceaccount/claims.go).
package rotation
