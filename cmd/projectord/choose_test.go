package main

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/internal/kubelet"
)

// TestChooser: which Pods get volumes, beside a kubelet and without one.
func TestChooser(t *testing.T) {
	web := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "one", Labels: map[string]string{"app": "web"}}}
	db := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "two", Labels: map[string]string{"app": "db"}}}
	tests := []struct {
		flags               []string
		web, db             bool // without a kubelet
		webBeside, dbBeside bool // beside one
		says                string
	}{
		{nil, true, true, false, false, "none of them gets a volume here"},
		{[]string{"--pod-selector=app=web"}, true, false, true, false, "a kubelet serves this node"},
		{[]string{"--pod-source=node"}, true, true, true, true, "the same volumes here too"},
		{[]string{"--pod-source=node", "--pod-selector=app=db"}, false, true, false, true, "the same volumes here too"},
		{[]string{"--pod-source=none"}, false, false, false, false, "a kubelet serves this node"},
		{[]string{"--pod-source=none", "--pod-selector=app=web"}, false, false, false, false, "a kubelet serves this node"},
		{[]string{"--namespaces=one,three"}, true, false, false, false, "none of them gets a volume here"},
		{[]string{"--namespaces=two", "--pod-selector=app"}, false, true, false, true, "a kubelet serves this node"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.flags, " "), func(t *testing.T) {
			dir := t.TempDir()
			o, err := parse(append([]string{"--kubeconfig=/k", "--node-name=n", "--kubelet-dir=" + dir}, tt.flags...), environment(nil))
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			c := newChooser(o)
			expect := func(where string, wantWeb, wantDB bool) {
				t.Helper()
				if err := c.lookForKubelet(t.Context(), o, logger); err != nil {
					t.Fatal(err)
				}
				if gotWeb, gotDB := c.chooses(web), c.chooses(db); gotWeb != wantWeb || gotDB != wantDB {
					t.Errorf("%s: web %t, db %t, want %t, %t", where, gotWeb, gotDB, wantWeb, wantDB)
				}
			}
			expect("without a kubelet", tt.web, tt.db)
			l := startKubelet(t, dir)
			expect("beside a kubelet", tt.webBeside, tt.dbBeside)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Dir(kubelet.Socket(dir))); err != nil {
				t.Fatal(err)
			}
			expect("while it is away", tt.webBeside, tt.dbBeside)
			if !strings.Contains(log.String(), tt.says) {
				t.Errorf("it says %s, want %q", &log, tt.says)
			}
		})
	}
}

// startKubelet listens where a kubelet would.
func startKubelet(t *testing.T, dir string) net.Listener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(kubelet.Socket(dir)), 0750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", kubelet.Socket(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestKubeletsDirIsRefused: without a kubelet its directory may be used, as
// Kata's runtime knows it.
func TestKubeletsDirIsRefused(t *testing.T) {
	dir := t.TempDir()
	o, err := parse([]string{"--kubeconfig=/k", "--node-name=n", "--kubelet-dir=" + dir, "--root-dir=" + dir}, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	if err := newChooser(o).lookForKubelet(t.Context(), o, logger); err != nil {
		t.Errorf("without a kubelet: %v", err)
	}
	startKubelet(t, dir)
	for name, look := range map[string]func(*chooser) error{
		"at the start": func(c *chooser) error { return c.lookForKubelet(t.Context(), o, logger) },
		"later":        func(c *chooser) error { return c.waitForKubelet(t.Context(), o, logger) },
	} {
		if err := look(newChooser(o)); err == nil || !strings.Contains(err.Error(), "--root-dir "+dir+" belongs to the kubelet") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
