package payload

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// buildOne builds the source alone, and renders its files, or its error.
func buildOne(t *testing.T, source corev1.VolumeProjection, change func(*Inputs, *corev1.Pod)) string {
	t.Helper()
	p := injected()
	pod := testPod(p)
	p.Sources = append(p.Sources[:1], source)
	in := testInputs(pod)
	if change != nil {
		change(in, pod)
	}
	v, ok := Find(pod, "v")
	if !ok {
		t.Fatal("the volume is not one to project")
	}
	files, failed := v.Build(in)
	var lines []string
	for _, f := range files {
		if f.Path != "token" {
			lines = append(lines, strings.ReplaceAll(f.Mode.String()+" "+f.Path+" "+string(f.Data), "\n", "|"))
		}
	}
	for _, e := range failed {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

func TestSecretSource(t *testing.T) {
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "absent")
	inputs := func(in *Inputs, _ *corev1.Pod) {
		in.Secrets = map[string]Fetched[map[string][]byte]{
			"s":         {Value: map[string][]byte{"user": []byte("u"), "password": []byte("p")}},
			"absent":    {Err: notFound},
			"forbidden": {Err: apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "forbidden", errors.New("no"))},
		}
	}
	secret := func(name string, optional bool, items ...corev1.KeyToPath) corev1.VolumeProjection {
		return corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Items: items, Optional: &optional,
		}}
	}
	for _, tt := range []struct {
		name   string
		source corev1.VolumeProjection
		want   string
	}{
		{"whole", secret("s", false), "-rw-r--r-- password p\n-rw-r--r-- user u"},
		{"items", secret("s", false, corev1.KeyToPath{Key: "user", Path: "dir/u", Mode: ptr(int32(0400))}), "-r-------- dir/u u"},
		{"missing key", secret("s", false, corev1.KeyToPath{Key: "nope", Path: "x"}),
			`sources[1].secret: Secret "s" has no key "nope"; add the key, or mark the source as optional`},
		{"missing key, optional", secret("s", true, corev1.KeyToPath{Key: "nope", Path: "x"}), ""},
		{"missing", secret("absent", false), `sources[1].secret: Secret "absent" does not exist; create it, or mark the source as optional: secrets "absent" not found`},
		{"missing, optional", secret("absent", true), ""},
		{"forbidden is not absent", secret("forbidden", true), `sources[1].secret: Secret "forbidden": secrets "forbidden" is forbidden: no`},
		{"not fetched", secret("other", false), "sources[1].secret: what it needs was not fetched"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := buildOne(t, tt.source, inputs); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestTrustBundleSource(t *testing.T) {
	anchor := func(text string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(text)}))
	}
	bundle := func(name, signer string, labels map[string]string, anchors ...string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: "# a comment\n" + strings.Join(anchors, "\n")},
		}
	}
	one, two := anchor("one"), anchor("two")
	all := []*certificatesv1.ClusterTrustBundle{
		bundle("b", "example.com/s", map[string]string{"env": "prod"}, two, one),
		bundle("a", "example.com/s", map[string]string{"env": "test"}, one, one),
		bundle("c", "example.com/other", nil, anchor("three")),
	}
	named := func(name string, optional bool) corev1.ClusterTrustBundleProjection {
		return corev1.ClusterTrustBundleProjection{Name: &name, Optional: &optional, Path: "ca.pem"}
	}
	signed := func(signer string, selector *metav1.LabelSelector) corev1.ClusterTrustBundleProjection {
		return corev1.ClusterTrustBundleProjection{SignerName: &signer, LabelSelector: selector, Path: "ca.pem"}
	}
	file := func(text string) string { return "-rw-r--r-- ca.pem " + strings.ReplaceAll(text, "\n", "|") }
	for _, tt := range []struct {
		name   string
		source corev1.ClusterTrustBundleProjection
		err    error
		want   string
	}{
		{"by name, sorted and without comments", named("b", false), nil, file(one + two)},
		{"each anchor once", named("a", false), nil, file(one)},
		{"by signer, all", signed("example.com/s", &metav1.LabelSelector{}), nil, file(one + two)},
		{"by signer and label", signed("example.com/s", &metav1.LabelSelector{MatchLabels: map[string]string{"env": "test"}}), nil, file(one)},
		{"by signer without a selector", signed("example.com/s", nil), nil,
			`sources[1].clusterTrustBundle: ClusterTrustBundles of signer "example.com/s" that match the label selector <none>: there is none; create it, or mark the source as optional`},
		{"missing", named("nope", false), nil,
			`sources[1].clusterTrustBundle: ClusterTrustBundle "nope": there is none; create it, or mark the source as optional`},
		{"missing, optional", named("nope", true), nil, file("")},
		{"not to be had, optional", named("b", true), errors.New("no"), `sources[1].clusterTrustBundle: ClusterTrustBundle "b": no`},
		{"neither", corev1.ClusterTrustBundleProjection{Path: "ca.pem"}, nil, "sources[1].clusterTrustBundle: neither name nor signerName is set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := buildOne(t, corev1.VolumeProjection{ClusterTrustBundle: &tt.source}, func(in *Inputs, _ *corev1.Pod) {
				in.TrustBundles = &Fetched[[]*certificatesv1.ClusterTrustBundle]{Value: all, Err: tt.err}
			})
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestResourceFields(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	inputs := func(in *Inputs, pod *corev1.Pod) {
		in.Allocatable = &Fetched[corev1.ResourceList]{Value: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("3800m"), corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"),
		}}
		pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: list("0", "1Gi"), Requests: list("250m", "1000")}
		pod.Spec.Containers[0].Resources.Limits["hugepages-2Mi"] = resource.MustParse("4Mi")
		pod.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	}
	for _, tt := range []struct{ container, resource, divisor, want string }{
		{"c", "limits.memory", "", "1073741824"},
		{"c", "limits.memory", "1Mi", "1024"},
		{"c", "limits.memory", "1G", "2"}, // rounded up
		{"c", "limits.cpu", "", "4"},      // zero is not set, so it is the node's
		{"c", "limits.cpu", "1m", "3800"},
		{"c", "requests.cpu", "", "1"},
		{"c", "requests.cpu", "1m", "250"},
		{"c", "requests.memory", "1k", "1"},
		{"c", "requests.ephemeral-storage", "", "0"}, // a request falls back to nothing
		{"c", "limits.hugepages-2Mi", "1Mi", "4"},
		{"c", "limits.hugepages-1Gi", "", "0"},
		{"init", "limits.ephemeral-storage", "1Gi", "10"},
		{"init", "limits.memory", "", "0"}, // the node does not say either
		{"nope", "limits.memory", "", `container "nope" is not among the Pod's containers and init containers`},
		{"c", "limits.bananas", "", `resource "limits.bananas" can't be projected into a file`},
		{"c", "memory", "", `resource "memory" can't be projected into a file`},
	} {
		ref := &corev1.ResourceFieldSelector{ContainerName: tt.container, Resource: tt.resource}
		if tt.divisor != "" {
			ref.Divisor = resource.MustParse(tt.divisor)
		}
		source := corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "x", ResourceFieldRef: ref}},
		}}
		want := "-rw-r--r-- x " + tt.want
		if strings.Contains(tt.want, " ") {
			want = `sources[1].downwardAPI: item "x": ` + tt.want
		}
		if got := buildOne(t, source, inputs); got != want {
			t.Errorf("%s of %s by %q: %s, want %s", tt.resource, tt.container, tt.divisor, got, want)
		}
	}
}

// TestAllocatableIsNeededForLimitsOnly, and its absence is an error only where
// it is needed.
func TestAllocatableIsNeededForLimitsOnly(t *testing.T) {
	for name, want := range map[string]bool{
		"limits.cpu": true, "limits.memory": true, "limits.ephemeral-storage": true, "limits.hugepages-2Mi": false, "requests.cpu": false,
	} {
		p := injected()
		p.Sources = append(p.Sources, corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "x", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: name}}},
		}})
		pod := testPod(p)
		v, _ := Find(pod, "v")
		if got := v.Needs().Allocatable; got != want {
			t.Errorf("%s needs what the node has: %v, want %v", name, got, want)
		}
		in := testInputs(pod)
		in.Allocatable = &Fetched[corev1.ResourceList]{Err: errors.New("unknown")}
		if _, failed := v.Build(in); (len(failed) == 1) != want {
			t.Errorf("%s without knowing the node: %v", name, failed)
		}
		if !NeedsResources(&pod.Spec) {
			t.Errorf("%s does not need the containers' resources", name)
		}
	}
	if pod := testPod(injected()); NeedsResources(&pod.Spec) {
		t.Error("the injected volume needs the containers' resources")
	}
}

// TestPodCertificateIsRefused: its volume waits, with a reason.
func TestPodCertificateIsRefused(t *testing.T) {
	got := buildOne(t, corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{SignerName: "s"}}, func(*Inputs, *corev1.Pod) {})
	if !strings.HasPrefix(got, "sources[1].podCertificate: this kind of source is not supported") {
		t.Errorf("got %s", got)
	}
}

// TestNotFetched: what the caller left out is no empty answer, not even to a source that
// is optional.
func TestNotFetched(t *testing.T) {
	yes, name := true, "b"
	for kind, source := range map[string]corev1.VolumeProjection{
		"a bundle": {ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: &name, Optional: &yes, Path: "x"}},
		"a ConfigMap": {ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Optional: &yes}},
		"a limit that is the node's": {DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
			Path: "x", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.cpu"},
		}}}},
	} {
		v := Volume{Name: "v", Source: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{source}}}
		in := Inputs{Pod: testPod(v.Source), ConfigMaps: map[string]Fetched[*corev1.ConfigMap]{"c": {}}}
		files, failed := v.Build(&in)
		if len(files) != 0 || len(failed) != 1 || !errors.Is(failed[0], errNotFetched) {
			t.Errorf("%s: files %v, failed %v, want that it was not fetched", kind, files, failed)
		}
	}
}

// TestTokenThatCantBeReplaced: Manager.Get's two answers are both taken.
func TestTokenThatCantBeReplaced(t *testing.T) {
	pod := testPod(injected())
	v, _ := Find(pod, "v")
	in := testInputs(pod)
	for spec, got := range in.Tokens {
		got.Err = errors.New("the API server is away")
		in.Tokens[spec] = got
	}
	if files, failed := v.Build(in); len(files) != 3 || len(failed) != 0 {
		t.Errorf("files %v, failed %v, want the token that is still valid", files, failed)
	}
}
