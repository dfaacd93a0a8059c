// Package kubelet finds out whether a kubelet serves this node. It asks nothing
// of the kubelet.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// DefaultDir is the kubelet's own default of --root-dir.
const DefaultDir = "/var/lib/kubelet"

// Socket is where the kubelet with this root directory serves PodResources, on
// every node and unasked (pkg/kubelet/apis/podresources).
func Socket(dir string) string { return filepath.Join(dir, "pod-resources", "kubelet.sock") }

// connectTimeout bounds an attempt to connect, which the kernel answers at once
// unless the kubelet is stuck.
const connectTimeout = time.Second

// Evidence says why a kubelet is believed to serve this node; empty is none. A
// socket that nobody answers counts too: kubelets are restarted, and to do their
// work meanwhile would be worse than to wait until somebody removes it.
func Evidence(ctx context.Context, dir string) string {
	path := Socket(dir)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Sprintf("it answers at %s", path)
	case errors.Is(err, fs.ErrNotExist):
		return ""
	}
	return fmt.Sprintf("there is its socket, though it can't be reached now; remove it if this node has no kubelet any more: %v", err)
}

// pollInterval is how often Wait looks: nobody is told of a new socket in a
// directory that may not exist yet.
const pollInterval = 10 * time.Second

// Wait returns the evidence as soon as there is some, or nothing when ctx ends.
func Wait(ctx context.Context, dir string) string {
	for {
		if evidence := Evidence(ctx, dir); evidence != "" && ctx.Err() == nil {
			return evidence
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return ""
		}
	}
}

// Owns says whether a directory is the kubelet's root directory, or would share
// its volumes, by whatever path.
func Owns(dir, other string) bool {
	if filepath.Clean(dir) == filepath.Clean(other) {
		return true
	}
	a, errA := os.Stat(dir)
	b, errB := os.Stat(other)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
