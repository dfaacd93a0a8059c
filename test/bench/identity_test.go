package bench

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/token-projector/token-projector/test/kustomize"
)

// BenchmarkIdentity measures a TokenRequest as each identity, beside that of a
// kubelet in the same namespace, which a policy may slow down too.
func BenchmarkIdentity(b *testing.B) {
	for b.Loop() {
		for _, pods := range []int{10, 1000} {
			r := newControlPlane(b)
			r.namespace("bench")
			r.manyPods(pods)
			r.identities(pods)
		}
	}
}

func (r *rig) manyPods(n int) {
	r.Helper()
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for i := worker; i < n; i += 20 {
				r.post("bench", fmt.Sprint("pod-", i))
			}
		})
	}
	wg.Wait()
}

// identities applies one overlay after another, the weakest last.
func (r *rig) identities(pods int) {
	r.Helper()
	kubeconfig, err := r.cluster.NodeKubeconfig(nodeName)
	r.must(err)
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	r.must(err)
	cfg.QPS = -1
	kubelet, err := kubernetes.NewForConfig(cfg)
	r.must(err)
	pod, err := r.client.CoreV1().Pods("bench").Get(r.Context(), "pod-0", metav1.GetOptions{})
	r.must(err)

	r.apply("base")
	token := r.daemonsToken()
	compare := func(name string, caller kubernetes.Interface) {
		r.untilGranted(caller, pod)
		ours, theirs := r.alternate(caller, kubelet, pod)
		result(r.B, "identity", label("as", name), fig("pods", "%.0f", float64(pods)),
			fig("p50_ms", "%.1f", ms(ours)), fig("kubelet_p50_ms", "%.1f", ms(theirs)), fig("ratio", "%.2f", ratio(ours, theirs)))
	}
	compare("impersonate", r.as(token, "system:node:"+nodeName))
	r.apply("overlays/serviceaccount")
	compare("serviceaccount", r.as(token, ""))
	r.apply("overlays/strict-policy")
	time.Sleep(2 * time.Second) // nothing tells when the API server has read the Pods as parameters
	strict := r.as(token, "")
	compare("strict-policy", strict)
	if pods < 100 { // with more, it is slow
		r.slips(strict, pods)
	}
}

// slips counts the requests for Pods of another node that pass the strict policy,
// because the API server's cache does not have the Pod yet, while many are created
// side by side, as in a rollout.
func (r *rig) slips(thief kubernetes.Interface, pods int) {
	r.Helper()
	const creators, each = 10, 40
	var passed atomic.Int64
	var wg sync.WaitGroup
	for worker := range creators {
		wg.Go(func() {
			for i := range each {
				pod, err := r.client.CoreV1().Pods("bench").Create(r.Context(), &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("elsewhere-%d-%d", worker, i)},
					Spec:       corev1.PodSpec{NodeName: "another-node", Containers: []corev1.Container{{Name: "c", Image: "none"}}},
				}, metav1.CreateOptions{})
				if err == nil {
					_, err = r.request(thief, pod)
				}
				switch {
				case err == nil:
					passed.Add(1)
				case !strings.Contains(err.Error(), "is not on the caller's node"):
					r.Error(err)
				}
			}
		})
	}
	wg.Wait()
	result(r.B, "identity_strict_policy", fig("pods", "%.0f", float64(pods)),
		fig("new_pods_of_another_node", "%.0f", creators*each), fig("passed", "%.0f", float64(passed.Load())))
}

func (r *rig) apply(overlay string) {
	r.Helper()
	text, err := kustomize.Build(r.Context(), overlay)
	r.must(err)
	objects, err := kustomize.Parse(text)
	r.must(err)
	objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "DaemonSet" })
	r.must(kustomize.Apply(r.Context(), r.cluster.AdminConfig(), objects))
}

// daemonsToken is what the kubelet would give a Pod of the DaemonSet.
func (r *rig) daemonsToken() string {
	r.Helper()
	const name = "projectord"
	pod, err := r.client.CoreV1().Pods(name).Create(r.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{NodeName: nodeName, ServiceAccountName: name, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	r.must(err)
	granted, err := r.client.CoreV1().ServiceAccounts(name).CreateToken(r.Context(), name, bound(pod), metav1.CreateOptions{})
	r.must(err)
	return granted.Status.Token
}

func bound(pod *corev1.Pod) *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
}

func (r *rig) as(token, impersonated string) kubernetes.Interface {
	r.Helper()
	cfg := r.cluster.AdminConfig()
	cfg.CertData, cfg.KeyData, cfg.BearerToken = nil, nil, token
	cfg.Impersonate = rest.ImpersonationConfig{UserName: impersonated}
	client, err := kubernetes.NewForConfig(cfg)
	r.must(err)
	return client
}

func (r *rig) request(client kubernetes.Interface, pod *corev1.Pod) (time.Duration, error) {
	start := time.Now()
	_, err := client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(r.Context(), pod.Spec.ServiceAccountName, bound(pod), metav1.CreateOptions{})
	return time.Since(start), err
}

// untilGranted waits until new rights count.
func (r *rig) untilGranted(client kubernetes.Interface, pod *corev1.Pod) {
	r.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := r.request(client, pod)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// alternate measures two callers in turn, and returns their medians.
func (r *rig) alternate(ours, theirs kubernetes.Interface, pod *corev1.Pod) (time.Duration, time.Duration) {
	r.Helper()
	var a, b []time.Duration
	for range 100 {
		took, err := r.request(ours, pod)
		r.must(err)
		a = append(a, took)
		took, err = r.request(theirs, pod)
		r.must(err)
		b = append(b, took)
	}
	return percentile(a, 50), percentile(b, 50)
}
