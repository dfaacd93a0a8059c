package ctl

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/token-projector/token-projector/internal/kubelet"
	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/projector/rootlock"
)

func TestWipe(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T, root string)
		code  int
		says  string
		stays bool // the root directory
	}{
		{"what projectord left", func(t *testing.T, root string) { serve(t, root, true) }, 0, "removed 1 volumes", false},
		{"what it serves", func(t *testing.T, root string) { serve(t, root, false) }, 1, "is already served by", true},
		{"nothing", func(*testing.T, string) {}, 0, "nothing to remove", false},
		{"somebody else's", func(t *testing.T, root string) { volume(t, root) }, 0, "nothing to remove", true},
		{"a link to it", func(t *testing.T, root string) {
			serve(t, root+"-real", true)
			if err := os.Symlink(root+"-real", root); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := os.Stat(root + "-real"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the directory behind the link: %v", err)
				}
			})
		}, 0, "removed 1 volumes", false},
		{"with something else in it", func(t *testing.T, root string) {
			serve(t, root, true)
			if err := os.WriteFile(filepath.Join(root, "theirs"), nil, 0600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { // and still, when it is tried again
				var stdout, stderr bytes.Buffer
				code := run(context.Background(), []string{"wipe", "--root-dir=" + root}, nil, &stdout, &stderr)
				if code != 1 || !strings.Contains(stderr.String(), "is not projectord's") {
					t.Errorf("the second time: exit %d, %s%s", code, &stdout, &stderr)
				}
			})
		}, 1, "theirs is not projectord's", true},
		{"a kubelet's", func(t *testing.T, root string) {
			serve(t, root, true)
			if err := os.MkdirAll(filepath.Dir(kubelet.Socket(root)), 0750); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("unix", kubelet.Socket(root))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, 1, "belongs to the kubelet", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "root")
			tt.setup(t, root)
			ctx, cancel := context.WithTimeout(t.Context(), rootlock.Timeout/100)
			defer cancel()
			var stdout, stderr bytes.Buffer
			code := run(ctx, []string{"wipe", "--root-dir=" + root, "--kubelet-dir=" + root}, nil, &stdout, &stderr)
			if text := stdout.String() + stderr.String(); code != tt.code || !strings.Contains(text, tt.says) {
				t.Errorf("exit %d, %s; want %d and %q", code, text, tt.code, tt.says)
			}
			if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) == tt.stays {
				t.Errorf("the root directory: %v, stays %t", err, tt.stays)
			}
		})
	}
}

func volume(t *testing.T, root string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, "pods/uid/volumes/kubernetes.io~projected/v"), 0750); err != nil {
		t.Fatal(err)
	}
}

// serve leaves what a projectord leaves, or goes on serving it.
func serve(t *testing.T, root string, ended bool) {
	t.Helper()
	lock, err := rootlock.Acquire(t.Context(), root, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	volume(t, root)
	if ended {
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Cleanup(func() { _ = lock.Release() })
}

// TestWipeSockets: those of the CSI driver go, unless somebody serves them.
func TestWipeSockets(t *testing.T) {
	root, kubeletDir := t.TempDir(), t.TempDir()
	stale := filepath.Join(kubeletDir, "plugins_registry", names.CSIDriver+"-reg.sock")
	served := filepath.Join(kubeletDir, "plugins", names.CSIDriver, "csi.sock")
	var listeners []*net.UnixListener
	for _, path := range []string{stale, served} {
		if err := os.MkdirAll(filepath.Dir(path), 0700); err != nil {
			t.Fatal(err)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		listeners = append(listeners, l)
	}
	_ = listeners[0].Close()
	if err := removeSockets(root, kubeletDir); err == nil || !strings.Contains(err.Error(), "another process serves "+served) {
		t.Errorf("a driver that runs: %v", err)
	}
	_ = listeners[1].Close()
	if err := removeSockets(root, kubeletDir); err != nil {
		t.Error(err)
	}
	for _, path := range []string{stale, filepath.Dir(served)} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}
