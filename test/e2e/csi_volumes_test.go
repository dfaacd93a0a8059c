//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/referee"
)

// ownership compares volumes with those that the kubelet has made of the same
// sources for the same Pods.
func (s *csiStory) ownership() {
	s.Helper()
	compared := 0
	for _, pod := range s.pods {
		theirs := strings.Replace(csiVolume(pod), "kubernetes.io~csi/tokens/mount", "kubernetes.io~projected/kubelet", 1)
		if !exists(theirs) {
			continue
		}
		compared++
		s.eventually("the volume of Pod "+pod.Name+" to be as the kubelet's is", func() error {
			if got, want := s.shape(csiVolume(pod)), s.shape(theirs); got != want {
				return fmt.Errorf("it is\n%s\nand the kubelet's is\n%s", got, want)
			}
			return nil
		})
	}
	if compared != 2 {
		s.Errorf("%d volumes were compared, want 2", compared)
	}
}

// shape is tree, with the volume itself, however many generations there are.
func (s *csiStory) shape(volume string) string {
	s.Helper()
	var st syscall.Stat_t
	s.must(syscall.Stat(volume, &st))
	lines := append(strings.Split(s.tree(volume), "\n"), fmt.Sprintf(". mode %o owner %d:%d", st.Mode, st.Uid, st.Gid))
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// corrected: the Events of a Pod with a wrong attribute say which. With the right
// one it starts.
func (s *csiStory) corrected() {
	s.Helper()
	wrong := csiWrong()
	s.eventually("an Event", func() error {
		events := s.try("get", "events", "--namespace=csi", "--field-selector=involvedObject.name="+wrong.Name)
		if !strings.Contains(events, "sources[0]: serviceAccountToken.path is required") {
			return errors.New(events)
		}
		return nil
	})
	s.run("delete", "pod", "--namespace=csi", wrong.Name)
	right := idle(wrong.Name, nil)
	_, err := s.client.CoreV1().Pods(right.Namespace).Create(s.ctx, right, metav1.CreateOptions{})
	s.must(err)
	pod := s.running(right)
	for _, f := range s.csiFiles(pod) {
		s.must(referee.Review(s.ctx, s.client, f, s.waitFile(f.Path)))
		s.referee.Watch(f)
	}
	s.pods = append(s.pods, pod)
	s.used++
}

// job runs one to its end: its volume goes, while its Pod is still there.
func (s *csiStory) job() {
	s.Helper()
	pod := consuming("ends", nil)
	pod.Spec.Containers[0].Args = append([]string{"--requests=10"}, pod.Spec.Containers[0].Args...)
	_, err := s.client.BatchV1().Jobs("csi").Create(s.ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "ends", Namespace: "csi"},
		Spec:       batchv1.JobSpec{BackoffLimit: new(int32(0)), Template: corev1.PodTemplateSpec{Spec: pod.Spec}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.run("wait", "--namespace=csi", "--for=condition=complete", "job/ends", "--timeout="+patience.String())
	pod = s.podOf("csi", "batch.kubernetes.io/job-name=ends")
	s.used++
	for _, report := range s.podReports(pod) {
		s.count(pod.Name, report)
	}
	s.eventually("the volume of a Pod that has ended to go", func() error {
		if exists(csiVolume(pod)) {
			return errors.New("it is there")
		}
		return nil
	})
	if now := s.podOf("csi", "batch.kubernetes.io/job-name=ends"); now.DeletionTimestamp != nil {
		s.Error("the Pod went too")
	}
}

// oneMountEach looks at where our file systems are mounted: one for each Pod.
func (s *csiStory) oneMountEach() {
	s.Helper()
	want := []string{}
	for _, pod := range s.pods {
		want = append(want, csiVolume(pod))
	}
	got := s.ourMounts()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.Errorf("mounts at\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// ourMounts are where projectord has mounted something.
func (r *rig) ourMounts() (points []string) {
	r.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	r.must(err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " - tmpfs projectord ") {
			points = append(points, strings.Fields(line)[4])
		}
	}
	return points
}
