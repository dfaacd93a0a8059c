//go:build parity

package parity

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/tokenfile"
)

// TestTokenfile has package tokenfile follow the same Pod's volume as the kubelet
// writes it, and as projectord does. A kubelet replaces no token within 8 minutes,
// so what changes is a ConfigMap's key beside it: the swap is the same.
func TestTokenfile(t *testing.T) {
	r := newRig(t)
	r.makeObjects()
	lifetime := int64(3607) // what the API server extends
	pod, err := r.create(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "tokenfile"},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &lifetime}},
					{ConfigMap: &corev1.ConfigMapProjection{
						LocalObjectReference: corev1.LocalObjectReference{Name: "cm"},
						Items:                []corev1.KeyToPath{{Key: "opaque", Path: "sub/opaque"}},
						Optional:             new(true),
					}},
				},
			}}}},
		},
	})
	r.must(err)
	var opaque []*tokenfile.Source
	for _, root := range []string{r.kubeletRoot(), r.projectordRoot()} {
		dir := filepath.Join(root, "pods", string(pod.UID), "volumes", "kubernetes.io~projected", "v")
		token := r.follow(filepath.Join(dir, "token"))
		opaque = append(opaque, r.follow(filepath.Join(dir, "sub", "opaque")))
		r.eventually("a token in "+dir, func() bool { _, err := token.Token(r.ctx); return err == nil })
		got, err := token.Token(r.ctx)
		r.must(err)
		if left := time.Until(got.Deadline); left < 50*time.Minute || left > time.Hour+time.Minute {
			t.Errorf("%s: the extended token's deadline is in %s, want an hour", root, left)
		}
	}
	for n := range 3 {
		want := fmt.Sprint("opaque-", n)
		_, err := r.client.CoreV1().ConfigMaps(namespace).Patch(r.ctx, "cm", types.MergePatchType,
			fmt.Appendf(nil, `{"data": {"opaque": %q}}`, want), metav1.PatchOptions{})
		r.must(err)
		r.touch([]*corev1.Pod{pod}, want)
		for i, root := range []string{r.kubeletRoot(), r.projectordRoot()} {
			file := filepath.Join(root, "pods", string(pod.UID), "volumes", "kubernetes.io~projected", "v", "sub", "opaque")
			r.eventually(want+" in "+file, func() bool { text, _ := os.ReadFile(file); return string(text) == want })
			r.sees(opaque[i], want)
		}
	}
	fmt.Printf("RESULT tokenfile_parity swaps=%d missed_final=0\n", 3*len(opaque))
}

// follow follows a file by its events until the test ends.
func (r *rig) follow(path string) *tokenfile.Source {
	r.Helper()
	s, err := tokenfile.Open(path, tokenfile.WithPoll(time.Hour))
	r.must(err)
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	r.Cleanup(func() {
		cancel()
		r.must(<-ended)
	})
	return s
}

// sees waits for what the file has by now, which must be known within 2 s.
func (r *rig) sees(s *tokenfile.Source, want string) {
	r.Helper()
	limit := time.After(2 * time.Second)
	for {
		changed := s.Changed()
		if token, err := s.Token(r.ctx); err == nil && token.Reveal() == want {
			return
		}
		select {
		case <-changed:
		case <-limit:
			r.Fatalf("%s is in the file, and not known 2 s later", want)
		}
	}
}
