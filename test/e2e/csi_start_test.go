//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/proc"
)

// startPairs is how many Pods are started with each volume.
const startPairs = 12

// startLimit is how much longer a Pod may take to start with our volume than with
// the kubelet's.
const startLimit = 1.1

// startTimes starts the same Pod with our volume and with the kubelet's, in turn,
// and compares the time from its creation until containerd has started its
// container. What the API says of that is as precise as a second.
func (s *csiStory) startTimes() {
	s.Helper()
	events := filepath.Join(s.TempDir(), "events.log")
	watch, err := s.node.WatchContainers(events)
	s.must(err)
	s.atEnd(watch.Stop)
	var pods []*corev1.Pod
	created := map[string]time.Time{}
	for i := range 2 * startPairs {
		pod := idle(fmt.Sprintf("start-%d", i), nil)
		if ours := (i+i/2)%2 == 0; !ours { // in turn the one first and the other
			pod = onlyKubelets(pod)
		}
		pod.Spec.NodeName = nodeName // the scheduler has no part in it
		began := time.Now()
		_, err := s.client.CoreV1().Pods(pod.Namespace).Create(s.ctx, pod, metav1.CreateOptions{})
		s.must(err)
		created[pod.Name] = began
		pods = append(pods, pod)
		s.eventually("Pod "+pod.Name+" to start", func() error {
			if n := len(s.containerStarts(events)); n < 2*(i+1) { // a sandbox each too
				return fmt.Errorf("%d containers have started:\n%s", n, proc.Tail(events, 10))
			}
			return nil
		})
	}
	var ours, kubelets []time.Duration
	starts := s.containerStarts(events)
	for _, pod := range pods {
		pod = s.running(pod)
		id := strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://")
		start, known := starts[id]
		if !known {
			s.Fatalf("containerd has not said that it started %q", id)
		}
		took := start.Sub(created[pod.Name])
		if pod.Spec.Volumes[0].CSI != nil {
			ours = append(ours, took)
		} else {
			kubelets = append(kubelets, took)
		}
	}
	s.Logf("with our volume %v\nwith the kubelet's %v", ours, kubelets)
	a, b := median(ours), median(kubelets)
	ratio := float64(a) / float64(b)
	fmt.Printf("RESULT csi_start ratio=%.2f csi_ms=%d kubelet_ms=%d\n", ratio, a.Milliseconds(), b.Milliseconds())
	if ratio > startLimit {
		fmt.Printf("MISSED csi_start ratio=%.2f limit=%.1f\n", ratio, startLimit)
	}
}

// onlyKubelets gives a Pod the kubelet's volume in the place of ours.
func onlyKubelets(pod *corev1.Pod) *corev1.Pod {
	pod = beside(pod)
	pod.Spec.Volumes = pod.Spec.Volumes[1:]
	pod.Spec.Containers[0].VolumeMounts = pod.Spec.Containers[0].VolumeMounts[1:]
	return pod
}

// containerStarts are the moments at which containers have started, by id, as
// containerd's events say: a line each, with time, namespace, topic and the event.
func (s *csiStory) containerStarts(events string) map[string]time.Time {
	s.Helper()
	starts := map[string]time.Time{}
	for line := range strings.Lines(s.hostFile(events)) {
		stamp, event, found := strings.Cut(line, " +0000 UTC k8s.io /tasks/start ")
		if !found || !strings.HasSuffix(line, "\n") { // not all of it is there
			continue
		}
		var task struct {
			Container string `json:"container_id"`
		}
		s.must(json.Unmarshal([]byte(event), &task))
		at, err := time.Parse("2006-01-02 15:04:05.999999999", stamp)
		s.must(err)
		starts[task.Container] = at
	}
	return starts
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return (times[(len(times)-1)/2] + times[len(times)/2]) / 2
}
