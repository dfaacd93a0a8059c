package payload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/token-projector/token-projector/rotation"
)

func ptr[T any](v T) *T { return &v }

// injected is the volume that the ServiceAccount admission plugin adds.
func injected() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: ptr(int32(0644)),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: ptr(int64(3607)), Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		},
	}
}

func testPod(p *corev1.ProjectedVolumeSource) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pod", Namespace: "ns", UID: "uid",
			Labels:      map[string]string{"b": "2", "a": "with \"quotes\"\nand lines"},
			Annotations: map[string]string{"example.com/k": "v"},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
			Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: p}}},
		},
	}
}

func testInputs(pod *corev1.Pod) *Inputs {
	grant := func(text string) Fetched[rotation.Grant] {
		return Fetched[rotation.Grant]{Value: rotation.Grant{Token: rotation.NewToken(text)}}
	}
	return &Inputs{
		Pod: pod,
		Tokens: map[TokenSpec]Fetched[rotation.Grant]{
			{ExpirationSeconds: 3607}:                   grant("api-token"),
			{Audience: "vault", ExpirationSeconds: 600}: grant("vault-token"),
		},
		ConfigMaps: map[string]Fetched[*corev1.ConfigMap]{
			"kube-root-ca.crt": {Value: &corev1.ConfigMap{Data: map[string]string{"ca.crt": "CA"}}},
			"settings": {Value: &corev1.ConfigMap{
				Data:       map[string]string{"a": "text", "both": "text wins in items"},
				BinaryData: map[string][]byte{"b": {0, 1}, "both": {2}},
			}},
			"absent":    {Err: apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "absent")},
			"forbidden": {Err: apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "forbidden", errors.New("no"))},
		},
	}
}

// build renders the files, one a line, and the errors.
func build(t *testing.T, pod *corev1.Pod) (files, failed string) {
	t.Helper()
	v, ok := Find(pod, "v")
	if !ok {
		t.Fatal("the volume is not one to project")
	}
	got, errs := v.Build(testInputs(pod))
	var lines []string
	for _, f := range got {
		line := fmt.Sprintf("%s %04o %q", f.Path, f.Mode, f.Data)
		if f.Owner != nil {
			line += fmt.Sprintf(" owner %d:%d", f.Owner.UID, f.Owner.GID)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	var messages []string
	for _, e := range errs {
		messages = append(messages, e.Error())
	}
	return strings.Join(lines, "\n"), strings.Join(messages, "\n")
}

func configMap(name string, items ...corev1.KeyToPath) corev1.VolumeProjection {
	return corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Items: items,
	}}
}

func optional(p corev1.VolumeProjection) corev1.VolumeProjection {
	p.ConfigMap.Optional = ptr(true)
	return p
}

func field(path, fieldPath string) corev1.VolumeProjection {
	return corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
		{Path: path, FieldRef: &corev1.ObjectFieldSelector{FieldPath: fieldPath}},
	}}}
}

func TestBuild(t *testing.T) {
	const injectedFiles = "ca.crt 0644 \"CA\"\nnamespace 0644 \"ns\"\ntoken 0644 \"api-token\""
	tests := []struct {
		name   string
		mutate func(*corev1.Pod, *corev1.ProjectedVolumeSource)
		files  string // added to injectedFiles if it begins with +
		failed string
	}{
		{"injected", func(*corev1.Pod, *corev1.ProjectedVolumeSource) {}, "+", ""},
		{"no defaultMode", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) { p.DefaultMode = nil }, "+", ""},
		{"default mode", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) { p.DefaultMode = ptr(int32(0400)) },
			"ca.crt 0400 \"CA\"\nnamespace 0400 \"ns\"\ntoken 0400 \"api-token\"", ""},
		{"item mode", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources[1].ConfigMap.Items[0].Mode = ptr(int32(0440))
		}, "ca.crt 0440 \"CA\"\nnamespace 0644 \"ns\"\ntoken 0644 \"api-token\"", ""},
		{"runAsUser of the Pod", func(pod *corev1.Pod, _ *corev1.ProjectedVolumeSource) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr(int64(1000))}
		}, "ca.crt 0644 \"CA\"\nnamespace 0644 \"ns\"\ntoken 0600 \"api-token\" owner 1000:-1", ""},
		{"containers that run as different users", func(pod *corev1.Pod, _ *corev1.ProjectedVolumeSource) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr(int64(1000))}
			pod.Spec.InitContainers = []corev1.Container{{SecurityContext: &corev1.SecurityContext{RunAsUser: ptr(int64(0))}}}
		}, "+", ""},
		{"one container that does not say", func(pod *corev1.Pod, _ *corev1.ProjectedVolumeSource) {
			pod.Spec.InitContainers = []corev1.Container{{SecurityContext: &corev1.SecurityContext{RunAsUser: ptr(int64(0))}}}
		}, "+", ""},
		{"fsGroup", func(pod *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(2000))}
			p.DefaultMode = ptr(int32(0400))
		}, "ca.crt 0440 \"CA\"\nnamespace 0440 \"ns\"\ntoken 0640 \"api-token\"", ""},
		{"second token", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: "vault", ExpirationSeconds: ptr(int64(600)), Path: "vault",
			}})
		}, "+\nvault 0644 \"vault-token\"", ""},
		{"later source wins", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, field("ca.crt", "metadata.name"))
		}, "ca.crt 0644 \"pod\"\nnamespace 0644 \"ns\"\ntoken 0644 \"api-token\"", ""},
		{"whole ConfigMap, binary after text", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, configMap("settings"))
		}, "a 0644 \"text\"\nb 0644 \"\\x00\\x01\"\nboth 0644 \"\\x02\"\n" + injectedFiles, ""},
		{"items look in text first", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, configMap("settings", corev1.KeyToPath{Key: "both", Path: "x"}))
		}, "+\nx 0644 \"text wins in items\"", ""},
		{"missing key", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, configMap("settings", corev1.KeyToPath{Key: "nope", Path: "x"}))
		}, "+", `sources[3].configMap: ConfigMap "settings" has no key "nope"; add the key, or mark the source as optional`},
		{"missing key, optional", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, optional(configMap("settings", corev1.KeyToPath{Key: "nope", Path: "x"})))
		}, "+", ""},
		{"missing ConfigMap", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, configMap("absent"))
		}, "+", `sources[3].configMap: ConfigMap "absent" does not exist; create it, or mark the source as optional: configmaps "absent" not found`},
		{"missing ConfigMap, optional", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, optional(configMap("absent")))
		}, "+", ""},
		{"forbidden ConfigMap is no absent one", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, optional(configMap("forbidden")))
		}, "+", `sources[3].configMap: ConfigMap "forbidden": configmaps "forbidden" is forbidden: no`},
		{"all fields", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = []corev1.VolumeProjection{
				p.Sources[0],
				field("annotation", "metadata.annotations['example.com/k']"), field("annotations", "metadata.annotations"),
				field("label", "metadata.labels['a']"), field("labels", "metadata.labels"),
				field("none", "metadata.labels['nope']"), field("uid", "metadata.uid"),
			}
		}, "annotation 0644 \"v\"\nannotations 0644 \"example.com/k=\\\"v\\\"\"\nlabel 0644 \"with \\\"quotes\\\"\\nand lines\"\n" +
			"labels 0644 \"a=\\\"with \\\\\\\"quotes\\\\\\\"\\\\nand lines\\\"\\nb=\\\"2\\\"\"\nnone 0644 \"\"\ntoken 0644 \"api-token\"\nuid 0644 \"uid\"", ""},
		{"field that is not for files", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, field("x", "spec.nodeName"))
		}, "+", `sources[3].downwardAPI: item "x": field "spec.nodeName" can't be projected into a file`},
		{"entry that an API server emptied", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, corev1.VolumeProjection{})
		}, "+", ""},
		{"source that is not built", func(_ *corev1.Pod, p *corev1.ProjectedVolumeSource) {
			p.Sources = append(p.Sources, corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{}})
		}, "+", "sources[3].podCertificate: this kind of source is not supported, so its volume is not served; see docs/parity.md"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := injected()
			pod := testPod(p)
			tt.mutate(pod, p)
			want := tt.files
			if rest, ok := strings.CutPrefix(want, "+"); ok {
				want = injectedFiles + rest
			}
			files, failed := build(t, pod)
			if files != want {
				t.Errorf("files\n%s\nwant\n%s", files, want)
			}
			if failed != tt.failed {
				t.Errorf("errors %q, want %q", failed, tt.failed)
			}
		})
	}
}

func TestNeedsNamesEachThingOnce(t *testing.T) {
	p := injected()
	p.Sources = append(p.Sources, p.Sources...)
	v, _ := Find(testPod(p), "v")
	n := v.Needs()
	if len(n.Tokens) != 1 || n.Tokens[0] != (TokenSpec{ExpirationSeconds: 3607}) || !slices.Equal(n.ConfigMaps, []string{"kube-root-ca.crt"}) {
		t.Errorf("needs %+v", n)
	}
}

func TestVolumes(t *testing.T) {
	tests := []struct {
		name   string
		mutate func(*corev1.Pod)
		want   bool
	}{
		{"as it is", func(*corev1.Pod) {}, true},
		{"mounted by nobody", func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts = nil }, false},
		{"mounted by an init container", func(p *corev1.Pod) {
			p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil
		}, true},
		{"mounted by an ephemeral container", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon(p.Spec.Containers[0])}}
			p.Spec.Containers = nil
		}, true},
		{"no token source", func(p *corev1.Pod) {
			p.Spec.Volumes[0].Projected.Sources = p.Spec.Volumes[0].Projected.Sources[1:]
		}, false},
		{"not projected", func(p *corev1.Pod) { p.Spec.Volumes[0].Projected = nil }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := testPod(injected())
			tt.mutate(pod)
			if _, ok := Find(pod, "v"); ok != tt.want {
				t.Errorf("projected: %v, want %v", ok, tt.want)
			}
		})
	}
}
