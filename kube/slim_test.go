package kube

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
)

// TestSlimKeepsWhatProjectionNeeds compares what payload makes of a Pod before
// and after it was made slim.
func TestSlimKeepsWhatProjectionNeeds(t *testing.T) {
	user, group := int64(1), int64(2)
	mount := []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	full := func() *corev1.Pod {
		now := metav1.Now()
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "p", Namespace: "ns", UID: "u", Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "2"},
				DeletionTimestamp: &now, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
			},
			Spec: corev1.PodSpec{
				ServiceAccountName: "sa", NodeName: "n",
				SecurityContext: &corev1.PodSecurityContext{RunAsUser: &user, FSGroup: &group},
				InitContainers:  []corev1.Container{{Name: "i", VolumeMounts: mount, Env: []corev1.EnvVar{{Name: "E", Value: "secret"}}}},
				Containers:      []corev1.Container{{Name: "c", SecurityContext: &corev1.SecurityContext{RunAsUser: &user}, Args: []string{"secret"}}},
				EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
					Name: "e", SecurityContext: &corev1.SecurityContext{RunAsUser: &user},
				}}},
				Volumes: []corev1.Volume{
					{Name: "other", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
					{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
						Sources: []corev1.VolumeProjection{
							{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
							{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
								{Path: "l", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
								{Path: "a", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations"}},
							}}},
						},
					}}},
				},
			},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Message: "long"},
		}
	}
	obj, err := slim(full())
	if err != nil {
		t.Fatal(err)
	}
	got, want := obj.(*corev1.Pod), full()
	if got.DeletionTimestamp == nil || got.Status.Phase != corev1.PodRunning || got.Spec.ServiceAccountName != "sa" {
		t.Errorf("slim Pod lacks what decides about its volumes: %+v", got)
	}
	build := func(pod *corev1.Pod) any {
		v, ok := payload.Find(pod, "v")
		if !ok {
			t.Fatal("the volume is not one to project")
		}
		in := &payload.Inputs{Pod: pod, Tokens: map[payload.TokenSpec]payload.Fetched[rotation.Grant]{
			{ExpirationSeconds: 3600}: {Value: rotation.Grant{Token: rotation.NewToken("t")}},
		}}
		files, failed := v.Build(in)
		if len(failed) > 0 || len(files) != 3 || files[2].Owner == nil {
			t.Fatalf("files %v, errors %v; want three, the token's with an owner", files, failed)
		}
		return []any{v, v.Needs(), files, payload.FSGroup(pod)}
	}
	if a, b := build(got), build(want); !reflect.DeepEqual(a, b) {
		t.Errorf("slim Pod gives\n%v\nwant\n%v", a, b)
	}
	// What only an ephemeral container has.
	debugged := full()
	other := int64(3)
	debugged.Spec.EphemeralContainers[0].SecurityContext.RunAsUser = &other
	debugged.Spec.EphemeralContainers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}, {Name: "other", MountPath: "/v/sub"}}
	if points := payload.MountPoints(debugged, "v"); len(points) != 1 {
		t.Fatalf("mount points %q", points)
	}
	slimmed, err := slim(debugged.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := payload.MountPoints(slimmed.(*corev1.Pod), "v"), payload.MountPoints(debugged, "v"); !reflect.DeepEqual(a, b) {
		t.Errorf("slim Pod has mount points %q, want %q", a, b)
	}
	if len(slimmed.(*corev1.Pod).Spec.EphemeralContainers) != 1 || *slimmed.(*corev1.Pod).Spec.EphemeralContainers[0].SecurityContext.RunAsUser != other {
		t.Error("slim Pod lacks its ephemeral container's user")
	}
	small, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, needless := range []string{"managedFields", "secret", "long", "emptyDir"} {
		if bytes.Contains(small, []byte(needless)) {
			t.Errorf("slim Pod still has %q: %s", needless, small)
		}
	}
}
