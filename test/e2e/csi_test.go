//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/proxy"
	"github.com/token-projector/token-projector/test/referee"
)

// brief is how long tokens live while rotations are counted: that many fit into a
// test, and a rotation at 80% leaves 4 s for a busy machine. Stock client-go uses a
// token for up to 50 s after it has read it, and the API server takes one for up to
// 60 s after it has expired, so that a program which sees no rotation is refused
// after 80 s.
const brief = 20 * time.Second

// csiStory is the life of the CSI driver on one node, and of the Pods that use it.
type csiStory struct {
	*rig
	referee *referee.Referee
	began   time.Time
	pods    []*corev1.Pod // with a volume, until the end
	seen    map[string]string
	minted  int // tokens that had been asked for when none was due for minutes
	// used is how many Pods have had a volume, and requests how many their
	// programs have made.
	used, requests int
}

// TestCSI installs the driver as it comes, has Pods of each shape use volumes of it
// at once, and disturbs it while they do.
func TestCSI(t *testing.T) {
	s := newCSIStory(t)
	s.startPods()
	s.ownership()
	s.corrected()
	s.job()
	s.longGrace()
	rotations := s.rotated(5)
	s.restarts()
	s.absence()
	s.endPods()
	fmt.Printf("RESULT e2e_csi pods=%d rotations=%d requests=%d failed=0\n", s.used, rotations, s.requests)
	s.example()
	s.startTimes()
	s.logsHoldNoToken()
}

func newCSIStory(t *testing.T) *csiStory {
	r := newRig(t)
	r.namespace("csi")
	r.service.Set(proxy.Rules{Lifetime: brief})
	r.Cleanup(func() { r.service.Set(proxy.Rules{}) })
	r.apply("testdata/csi")
	// Before the driver goes, which they need.
	r.atEnd(func() {
		r.run("delete", "jobs,pods", "--namespace=csi", "--all", "--grace-period=1", "--timeout="+patience.String())
	})
	r.rollout(namespace, namespace)
	r.eventually("the kubelet to know the driver", func() error {
		node, err := r.client.StorageV1().CSINodes().Get(r.ctx, nodeName, metav1.GetOptions{})
		if err == nil && len(node.Spec.Drivers) != 1 {
			err = errors.New("it does not")
		}
		return err
	})
	s := &csiStory{rig: r, seen: map[string]string{}}
	s.referee = referee.New(r.client, 100*time.Millisecond, func(referee.Change) {})
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { s.referee.Run(ctx) })
	r.Cleanup(func() { cancel(); watching.Wait() })
	return s
}

// startPods creates all at once, and waits until all run.
func (s *csiStory) startPods() {
	s.Helper()
	began := time.Now()
	pods := csiShapes()
	for len(pods) < csiPods {
		pods = append(pods, idle(fmt.Sprintf("crowd-%d", len(pods)), nil))
	}
	for _, pod := range append(slices.Clone(pods), csiWrong()) {
		_, err := s.client.CoreV1().Pods(pod.Namespace).Create(s.ctx, pod, metav1.CreateOptions{})
		s.must(err)
	}
	s.began = time.Now()
	for _, pod := range pods {
		s.pods = append(s.pods, s.running(pod))
	}
	s.used += len(pods)
	s.Logf("%d Pods at once: %s", len(pods), time.Since(began).Round(100*time.Millisecond))
	for _, pod := range s.pods {
		for _, f := range s.csiFiles(pod) {
			s.must(referee.Review(s.ctx, s.client, f, s.waitFile(f.Path)))
			s.referee.Watch(f)
		}
	}
	s.oneMountEach()
}

// csiPods is how many are started at once.
const csiPods = 20

// rotated waits until each token has been rotated n times, the last time to one
// that lives as long as the API server says, and returns how many rotations
// that were.
func (s *csiStory) rotated(n int) (rotations int) {
	s.Helper()
	for ; rotations < n; rotations++ {
		if rotations == n-1 {
			s.service.Set(proxy.Rules{})
		}
		deadline := time.Now().Add(time.Duration(n) * brief)
		for {
			report := s.referee.Report()
			if s.fewestRotations(report) > rotations {
				break
			}
			if time.Now().After(deadline) {
				s.Fatalf("%d rotations, want %d each: %+v\n%s", rotations, n, report, s.log())
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return s.referee.Report().Rotations
}

// fewestRotations is how often the token was rotated that was so least.
func (s *csiStory) fewestRotations(report referee.Report) int {
	counts := []int{}
	for _, pod := range s.pods {
		for _, f := range s.csiFiles(pod) {
			counts = append(counts, report.RotationsOf[f.Path])
		}
	}
	return slices.Min(counts)
}

// endPods has all programs end and report, deletes all Pods, and looks for what is
// left.
func (s *csiStory) endPods() {
	s.Helper()
	// Long enough that one which has seen no rotation would have been refused.
	if ran := time.Since(s.began); ran < brief+time.Minute {
		s.Errorf("the programs ran for %s, which shows nothing", ran)
	}
	if report := s.referee.Report(); report.Lapsed+report.WrongIdentity+report.Broken > 0 {
		s.Errorf("of the tokens in the files: %+v", report)
	}
	for _, id := range s.processes("consumer") {
		s.must(syscall.Kill(id, syscall.SIGTERM))
	}
	for _, pod := range s.pods {
		for _, f := range s.csiFiles(pod) {
			s.referee.Release(f.Path)
		}
		for i, report := range s.podReports(pod) {
			s.count(pod.Name, report)
			if i >= len(pod.Spec.InitContainers) && report.Tokens < 2 {
				s.Errorf("Pod %s used %d tokens", pod.Name, report.Tokens)
			}
		}
	}
	s.run("delete", "pods", "--namespace=csi", "--all", "--grace-period=1", "--timeout="+patience.String())
	if left := s.ourMounts(); len(left) > 0 {
		s.Errorf("mounts are left: %q", left)
	}
}

// count adds what a program has reported.
func (s *csiStory) count(name string, report consumed) {
	s.Helper()
	s.requests += report.Requests
	if report.Failed+report.Unready+report.Unreachable > 0 || report.Requests == 0 {
		s.Errorf("the program of Pod %s: %+v", name, report)
	}
}
