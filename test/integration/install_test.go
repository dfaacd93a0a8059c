package integration

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/kustomize"
)

// installation is what a kustomization of deploy/daemonset makes, but for the
// DaemonSet itself, which needs a kubelet: that is in test/e2e. Several are beside
// each other on one cluster, each under a name of its own.
type installation struct {
	*world
	name string // in the place of "projectord"
}

// install applies a kustomization below deploy/daemonset.
func (w *world) install(kustomization string) *installation {
	w.Helper()
	i := &installation{world: w, name: "projectord-" + w.ns}
	text, err := kustomize.Build(w.ctx, kustomization)
	w.must(err)
	objects := i.parse(text)
	w.must(kustomize.Apply(w.ctx, w.cluster.AdminConfig(), objects))
	w.Cleanup(func() { // a policy is evaluated for all requests of a cluster
		admission := w.client.AdmissionregistrationV1()
		for _, o := range objects {
			if o.GetKind() == "ValidatingAdmissionPolicyBinding" {
				err := admission.ValidatingAdmissionPolicyBindings().Delete(context.Background(), o.GetName(), metav1.DeleteOptions{})
				if !apierrors.IsNotFound(err) { // a test may do without
					w.must(err)
				}
			}
		}
	})
	return i
}

// parse reads manifests under the installation's name.
func (i *installation) parse(text string) []*unstructured.Unstructured {
	i.Helper()
	objects, err := kustomize.Parse(strings.ReplaceAll(text, "projectord", i.name))
	i.must(err)
	return slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "DaemonSet" })
}

// podOn creates a Pod of the installation's ServiceAccount on a node, as the
// DaemonSet would.
func (i *installation) podOn(node string) *corev1.Pod {
	i.Helper()
	pod, err := i.client.CoreV1().Pods(i.name).Create(i.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "projectord-" + node},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: i.name, Containers: []corev1.Container{{Name: "c", Image: "none"}},
		},
	}, metav1.CreateOptions{})
	i.must(err)
	return pod
}

// token requests a token as the kubelet does for the installation's Pod.
func (i *installation) token(pod *corev1.Pod) string {
	i.Helper()
	granted, err := i.client.CoreV1().ServiceAccounts(i.name).CreateToken(i.ctx, i.name, boundTo(pod), metav1.CreateOptions{})
	i.must(err)
	return granted.Status.Token
}

// boundTo is a request of a token for the API server.
func boundTo(pod *corev1.Pod, audiences ...string) *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:      audiences,
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
}

// kubeconfig has the token of a Pod in a file beside it, and returns the flag.
func (i *installation) kubeconfig(token string) string {
	i.Helper()
	source, err := i.cluster.KubeconfigVia("pod-"+i.ns, i.cluster.URL())
	i.must(err)
	cfg, err := clientcmd.LoadFromFile(source)
	i.must(err)
	tokenFile := filepath.Join(i.dir, "own-token")
	i.must(os.WriteFile(tokenFile, []byte(token), 0600))
	for name := range cfg.AuthInfos {
		cfg.AuthInfos[name] = &clientcmdapi.AuthInfo{TokenFile: tokenFile}
	}
	path := filepath.Join(i.dir, "pod.kubeconfig")
	i.must(clientcmd.WriteToFile(*cfg, path))
	return "--kubeconfig=" + path
}

// thief is a client of somebody who has taken the token; impersonated unless
// that is empty.
func (i *installation) thief(token, impersonated string) kubernetes.Interface {
	i.Helper()
	return i.thiefWith(token, rest.ImpersonationConfig{UserName: impersonated})
}

func (i *installation) thiefWith(token string, as rest.ImpersonationConfig) kubernetes.Interface {
	i.Helper()
	cfg := i.cluster.AdminConfig()
	cfg.CertData, cfg.KeyData = nil, nil
	cfg.BearerToken = token
	cfg.Impersonate = as
	client, err := kubernetes.NewForConfig(cfg)
	i.must(err)
	return client
}

// attempt is one thing that a thief tries.
type attempt struct {
	what string
	do   func(ctx context.Context) error
	// refused says whether an error is the one that it should get; nil: it
	// succeeds.
	refused func(error) bool
}

// try makes attempts and compares.
func (i *installation) try(attempts []attempt) {
	i.Helper()
	for _, a := range attempts {
		err := a.do(i.ctx)
		switch {
		case a.refused == nil && err != nil:
			i.Errorf("%s: refused, %v", a.what, err)
		case a.refused != nil && err == nil:
			i.Errorf("%s: granted", a.what)
		case a.refused != nil && !a.refused(err):
			i.Errorf("%s: refused for another reason, %v", a.what, err)
		default:
			i.Logf("%s: %v", a.what, err)
		}
	}
}

// waitLine waits for a line of the daemon's log.
func (w *world) waitLine(d *daemon.Daemon, what string, match func(daemon.Line) bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	_, err := d.WaitLine(ctx, what, match)
	w.must(err)
}

// waitChoice waits until projectord has said as whom it makes requests.
func (w *world) waitChoice(d *daemon.Daemon, identity string) {
	w.Helper()
	w.waitLine(d, "its identity", func(l daemon.Line) bool {
		return l.Text("msg") == "making requests" && l.Text("identity") == identity && l.Text("reason") != ""
	})
}

// impersonates says whether the shared API server knows impersonation of the own
// node.
func impersonates() bool { return *emulated == "" || *emulated >= "1.36" }

// needsImpersonation ends a test early on an API server that emulates an older
// one: TestAuto says what happens there.
func (w *world) needsImpersonation() {
	w.Helper()
	if !impersonates() {
		w.Skip("an API server before 1.36 has no impersonation of the own node")
	}
}
