//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/referee"
)

// keepLogs reads what the driver's containers have logged so far: the files go with
// its Pods.
func (s *csiStory) keepLogs() {
	s.Helper()
	files, err := filepath.Glob("/var/log/pods/" + namespace + "_*/*/*.log")
	s.must(err)
	for _, path := range files {
		text, err := os.ReadFile(path)
		s.must(err)
		s.seen[path] = string(text)
	}
}

// logsHoldNoToken looks through all of them, at the highest verbosity.
func (s *csiStory) logsHoldNoToken() {
	s.Helper()
	s.keepLogs()
	lines, debug := 0, false
	for path, text := range s.seen {
		lines += strings.Count(text, "\n")
		debug = debug || strings.Contains(text, `"level":"DEBUG"`)
		for line := range strings.Lines(text) {
			for _, secret := range []string{"eyJ", "volume_context"} { // how each token begins
				if _, after, found := strings.Cut(line, secret); found {
					s.Errorf("%s has %s, and %d bytes after it", path, secret, len(after))
				}
			}
		}
	}
	fmt.Printf("RESULT csi_logs files=%d lines=%d\n", len(s.seen), lines)
	// One before each restart, at least.
	if len(s.seen) < 5 || !debug {
		s.Errorf("%d logs; verbose: %t", len(s.seen), debug)
	}
}

// example applies the one that is published: its Pods start, and have their tokens.
func (s *csiStory) example() {
	s.Helper()
	file := filepath.Join(repository, "deploy/examples/deployment.yaml")
	s.run("apply", "--filename="+file)
	remove := func() { s.run("delete", "--filename="+file, "--ignore-not-found", "--cascade=foreground") }
	s.atEnd(remove)
	s.run("rollout", "status", "deployment/api-client", "--timeout="+patience.String())
	pods, err := s.client.CoreV1().Pods("default").List(s.ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=api-client"})
	s.must(err)
	if len(pods.Items) != 2 {
		s.Errorf("the example has %d Pods, want 2", len(pods.Items))
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		for _, f := range s.csiFiles(pod) {
			s.must(referee.Review(s.ctx, s.client, f, s.waitFile(f.Path)))
		}
	}
}
