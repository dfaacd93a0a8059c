//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/rotation"
)

// podReports are what the consumers in a Pod print when they end.
func (r *rig) podReports(pod *corev1.Pod) (reports []consumed) {
	r.Helper()
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if c.Image != consumerImage {
			continue
		}
		var report consumed
		r.eventually("the program of Pod "+pod.Name+" to report", func() error {
			return json.Unmarshal([]byte(r.logs(pod.Namespace, pod.Name, c.Name)), &report)
		})
		reports = append(reports, report)
	}
	return reports
}

// programsSee says which program has another token where its volume is mounted than
// there is on the host.
func (s *csiStory) programsSee(tokens map[string]string) error {
	s.Helper()
	programs := s.processes("consumer")
	if len(programs) != 7 {
		return fmt.Errorf("%d programs run, want 7", len(programs))
	}
	published := slices.Collect(maps.Values(tokens))
	for _, id := range programs {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/tokens/token", id))
		s.must(err)
		if len(files) == 0 {
			files = []string{fmt.Sprintf("/proc/%d/root/%s/token", id, inClusterVolume)}
		}
		claims, err := rotation.ParseClaims(s.hostFile(files[0]))
		s.must(err)
		if !slices.Contains(published, claims.ID) {
			return fmt.Errorf("process %d sees a token that is not there", id)
		}
	}
	return nil
}

// longGrace deletes a Pod whose program goes on for longer than a token lives: its
// tokens are rotated until it ends.
func (s *csiStory) longGrace() {
	s.Helper()
	const linger = 2*brief + 2*time.Second
	pod := consuming("grace", nil)
	pod.Spec.TerminationGracePeriodSeconds = new(int64(linger/time.Second) + 10)
	c := &pod.Spec.Containers[0]
	c.Args = append([]string{"--linger=" + linger.String()}, c.Args...)
	_, err := s.client.CoreV1().Pods("csi").Create(s.ctx, pod, metav1.CreateOptions{})
	s.must(err)
	pod = s.running(pod)
	file := s.csiFiles(pod)[0].Path
	s.used++
	last := s.waitFile(file)
	began := time.Now()
	// It ends with the program, and would be gone with the Pod.
	follow := s.command([]string{"logs", "--namespace=csi", pod.Name, "--follow"})
	var printed strings.Builder
	follow.Stdout = &printed
	s.must(follow.Start())
	s.run("delete", "pod", "--namespace=csi", pod.Name, "--wait=false")
	ended := make(chan error, 1)
	go func() { ended <- follow.Wait() }()

	rotations, ends := 0, false
	for !ends {
		select {
		case err := <-ended:
			s.must(err)
			ends = true
		case <-time.After(100 * time.Millisecond):
		}
		token, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unmounted, before what the program printed was here
		}
		s.must(err)
		if string(token) != last {
			last = string(token)
			rotations++
		}
		if claims, err := rotation.ParseClaims(last); err != nil || claims.ExpiresAt.Before(time.Now()) {
			s.Fatalf("a Pod that ends has a token that has expired: %v", err)
		}
	}
	if took := time.Since(began); took < linger || rotations < 2 {
		s.Errorf("the program ended after %s and %d rotations", took, rotations)
	}
	var report consumed
	s.must(json.Unmarshal([]byte(printed.String()), &report))
	s.count(pod.Name, report)
}
