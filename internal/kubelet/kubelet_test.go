package kubelet

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listen puts a socket where a kubelet would have it.
func listen(t *testing.T, dir string) *net.UnixListener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(Socket(dir)), 0750); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: Socket(dir), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestEvidence(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T, dir string)
		says  string // "": there is none
	}{
		{"no directory", func(*testing.T, string) {}, ""},
		{"an empty directory", func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Dir(Socket(dir)), 0750); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"a live kubelet", func(t *testing.T, dir string) { listen(t, dir) }, "it answers at"},
		{"a restarting one", func(t *testing.T, dir string) { _ = listen(t, dir).Close() }, "can't be reached now"},
		{"another file", func(t *testing.T, dir string) {
			if err := os.MkdirAll(Socket(dir), 0750); err != nil {
				t.Fatal(err)
			}
		}, "can't be reached now"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.setup(t, dir)
			got := Evidence(t.Context(), dir)
			if (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
				t.Errorf("evidence %q, want %q", got, tt.says)
			}
		})
	}
}

func TestOwns(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for other, want := range map[string]bool{
		dir: true, dir + "/": true, link: true, "/nonexistent/kubelet": false, filepath.Join(dir, "projectord"): false,
	} {
		if got := Owns(dir, other); got != want {
			t.Errorf("%s and %s: %t", dir, other, got)
		}
	}
}
