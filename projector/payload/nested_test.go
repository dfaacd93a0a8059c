package payload

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestMountPoints(t *testing.T) {
	mounts := func(pairs ...string) (out []corev1.VolumeMount) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, corev1.VolumeMount{Name: pairs[i], MountPath: pairs[i+1]})
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		mounts []corev1.VolumeMount
		want   []string
	}{
		{"alone", mounts("v", "/v"), nil},
		{"beside", mounts("v", "/v", "x", "/vx", "y", "/"), nil},
		{"below", mounts("v", "/v", "x", "/v/a/b", "y", "/v/c/"), []string{"a/b", "c"}},
		{"below one that is below", mounts("v", "/v", "x", "/v/a", "y", "/v/a/b", "z", "/v/ab"), []string{"a", "ab"}},
		{"below one that is not next to it", mounts("v", "/v", "x", "/v/a", "y", "/v/a/b", "z", "/v/a-b"), []string{"a", "a-b"}},
		{"mounted twice", mounts("v", "/v", "v", "/w", "x", "/v/a", "y", "/w/b"), []string{"a", "b"}},
		{"at the root", mounts("v", "/", "x", "/a"), []string{"a"}},
		{"below itself", mounts("v", "/v", "v", "/v/a"), []string{"a"}},
	} {
		pod := testPod(injected())
		pod.Spec.Containers[0].VolumeMounts = tt.mounts
		if got := MountPoints(pod, "v"); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	pod := testPod(injected())
	pod.Spec.InitContainers = []corev1.Container{{VolumeMounts: mounts("x", "/v/a")}}
	if got := MountPoints(pod, "v"); got != nil {
		t.Errorf("another container's mount counts: %q", got)
	}
}
