package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/token-projector/token-projector/test/daemon"
)

// requestToken is an attempt to get a token of the default ServiceAccount.
func requestToken(client kubernetes.Interface, namespace string, pod *corev1.Pod, audiences ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		request := boundTo(&corev1.Pod{}, audiences...)
		if pod != nil {
			request = boundTo(pod, audiences...)
		} else {
			request.Spec.BoundObjectRef = nil
		}
		_, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, "default", request, metav1.CreateOptions{})
		return err
	}
}

// TestThiefOfAnImpersonatingToken: what somebody can do who has the token of the
// DaemonSet's Pod, with the roles as they are in the manifests.
func TestThiefOfAnImpersonatingToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.needsImpersonation()
	i := w.install("overlays/secrets")
	token := i.token(i.podOn(w.node))
	other := w.node + "-other"
	w.createNode(other)

	secret := func(name string) {
		_, err := w.client.CoreV1().Secrets(w.ns).Create(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		w.must(err)
	}
	secret("used")
	secret("unused")
	pod := w.newPod("here")
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "used"}}}}
	_, err := w.client.CoreV1().ConfigMaps(w.ns).Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "unused"}}, metav1.CreateOptions{})
	w.must(err)
	here := w.create(pod)
	pod = w.newPod("there")
	pod.Spec.NodeName = other
	there := w.create(pod)

	configMap := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := i.thief(token, "system:node:"+w.node).CoreV1().ConfigMaps(w.ns).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
			return err
		}
	}
	inGroup := i.thiefWith(token, rest.ImpersonationConfig{UserName: "system:node:" + w.node, Groups: []string{"system:masters"}})
	self, node := i.thief(token, ""), i.thief(token, "system:node:"+w.node)
	w.eventually("the roles to count", func() bool { return requestToken(node, w.ns, here)(w.ctx) == nil })
	forbidden := apierrors.IsForbidden
	i.try([]attempt{
		{"a token for a Pod of the node", requestToken(node, w.ns, here), nil},
		{"its Pods", func(ctx context.Context) error {
			_, err := node.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + w.node})
			return err
		}, nil},
		{"a Secret that one of them uses", getSecret(node, w.ns, "used"), nil},
		{"a ConfigMap that one of them uses", configMap("kube-root-ca.crt"), nil},
		{"an Event", func(ctx context.Context) error {
			_, err := node.CoreV1().Events(w.ns).Create(ctx, &corev1.Event{
				ObjectMeta: metav1.ObjectMeta{Name: "made-up"}, InvolvedObject: corev1.ObjectReference{Namespace: w.ns},
			}, metav1.CreateOptions{})
			return err
		}, nil},
		{"a token for a year", changed(node, w.ns, "default", here, func(s *authenticationv1.TokenRequestSpec) { s.ExpirationSeconds = new(int64(365 * 86400)) }), nil},

		{"a token for a Pod of another node", requestToken(node, w.ns, there), forbidden},
		{"a token bound to no Pod", requestToken(node, w.ns, nil), forbidden},
		{"an audience that the Pod does not declare", requestToken(node, w.ns, here, "vault"), forbidden},
		{"two audiences", requestToken(node, w.ns, here, "https://kubernetes.default.svc", "vault"), forbidden},
		{"acting as a group", requestToken(inGroup, w.ns, here), forbidden},
		{"a ConfigMap that no Pod of the node uses", configMap("unused"), forbidden},
		{"a token without impersonation", requestToken(self, w.ns, here), forbidden},
		{"acting as another node", requestToken(i.thief(token, "system:node:"+other), w.ns, there), forbidden},
		{"acting as somebody else", requestToken(i.thief(token, "system:serviceaccount:kube-system:default"), w.ns, here), forbidden},
		{"acting as an administrator", requestToken(i.thief(token, "admin"), w.ns, here), forbidden},
		{"a Secret that no Pod of the node uses", getSecret(node, w.ns, "unused"), forbidden},
		{"all Pods", func(ctx context.Context) error {
			_, err := node.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
			return err
		}, forbidden},
		{"patching the Node", func(ctx context.Context) error {
			_, err := node.CoreV1().Nodes().Patch(ctx, w.node, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
			return err
		}, forbidden},
		{"patching the Node's status", func(ctx context.Context) error {
			_, err := node.CoreV1().Nodes().Patch(ctx, w.node, types.MergePatchType, []byte(`{"status":{}}`), metav1.PatchOptions{}, "status")
			return err
		}, forbidden},
		{"patching a Pod's status", func(ctx context.Context) error {
			_, err := node.CoreV1().Pods(w.ns).Patch(ctx, "here", types.MergePatchType, []byte(`{"status":{}}`), metav1.PatchOptions{}, "status")
			return err
		}, forbidden},
		{"deleting a Pod", func(ctx context.Context) error {
			return node.CoreV1().Pods(w.ns).Delete(ctx, "here", metav1.DeleteOptions{})
		}, forbidden},
		{"evicting a Pod", func(ctx context.Context) error {
			return node.CoreV1().Pods(w.ns).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "here", Namespace: w.ns}})
		}, forbidden},
		{"creating a Pod", func(ctx context.Context) error {
			_, err := node.CoreV1().Pods(w.ns).Create(ctx, w.newPod("mirror"), metav1.CreateOptions{})
			return err
		}, forbidden},
		{"Services", func(ctx context.Context) error {
			_, err := node.CoreV1().Services("").List(ctx, metav1.ListOptions{})
			return err
		}, forbidden},
	})
}

// TestThiefIsLeftWithNothing: the token ends with the Pod, and the rights with the
// binding, within the time that the API server keeps what it has found out.
func TestThiefIsLeftWithNothing(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(*installation, *corev1.Pod) error{
		"Pod deleted": func(i *installation, own *corev1.Pod) error {
			now := int64(0)
			return i.client.CoreV1().Pods(i.name).Delete(i.ctx, own.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		},
		"binding deleted": func(i *installation, _ *corev1.Pod) error {
			return i.client.RbacV1().ClusterRoleBindings().Delete(i.ctx, i.name, metav1.DeleteOptions{})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shared)
			w.needsImpersonation()
			i := w.install("base")
			own := i.podOn(w.node)
			here := w.create(w.newPod("here"))
			try := requestToken(i.thief(i.token(own), "system:node:"+w.node), w.ns, here)
			w.eventually("the roles to count", func() bool { return try(w.ctx) == nil })
			w.must(end(i, own))
			began := time.Now()
			w.eventually("a refusal", func() bool { err := try(w.ctx); return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) })
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("refused after %s", took)
			}
		})
	}
}

func getSecret(client kubernetes.Interface, namespace, name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	}
}

// TestImpersonate does the main job with the DaemonSet's own rights, and what
// comes when they are taken away and given back.
func TestImpersonate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.needsImpersonation()
	i := w.install("base")
	d := w.startWith(i.kubeconfig(i.token(i.podOn(w.node))), "--rotation-max-age=10s", "--service-account-check-interval=2s")
	w.waitReady(d)
	w.waitChoice(d, "impersonate")
	f := w.tokenFiles(w.create(w.newPod("pod")))[0]
	last := w.waitFile(f.Path)
	w.must(w.review(f, last))
	w.eventually("a rotation", func() bool { return w.waitFile(f.Path) != last })

	binding, err := w.client.RbacV1().ClusterRoleBindings().Get(w.ctx, i.name, metav1.GetOptions{})
	w.must(err)
	w.must(w.client.RbacV1().ClusterRoleBindings().Delete(w.ctx, i.name, metav1.DeleteOptions{}))
	w.waitLine(d, "what it may no longer do", func(l daemon.Line) bool {
		return strings.Contains(l.Text("error"), "does not permit this") && strings.Contains(l.Text("error"), "impersonate")
	})
	w.eventually("/readyz to say so", func() bool {
		status, body, err := d.Get(w.ctx, "/readyz")
		return err == nil && status == 503 && strings.Contains(body, "does not let this Pod act as its node")
	})
	last = w.waitFile(f.Path)
	w.must(w.review(f, last))
	binding.ResourceVersion, binding.UID = "", ""
	_, err = w.client.RbacV1().ClusterRoleBindings().Create(w.ctx, binding, metav1.CreateOptions{})
	w.must(err)
	w.eventually("a rotation after the rights came back", func() bool { return w.waitFile(f.Path) != last })
	w.waitLine(d, "the recovery", func(l daemon.Line) bool { return l.Text("msg") == "volume has recovered" })
	w.waitReady(d)
}

// TestChosenNamespaces: by RoleBindings, tokens of some namespaces only.
func TestChosenNamespaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.needsImpersonation()
	elsewhere := newWorld(t, shared)
	i := w.install("overlays/chosen-namespaces")
	_, err := w.client.RbacV1().RoleBindings(w.ns).Create(w.ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: i.name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: i.name + "-namespaces"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: i.name, Name: i.name}},
	}, metav1.CreateOptions{})
	w.must(err)
	token := i.token(i.podOn(w.node))
	d := w.startWith(i.kubeconfig(token), "--namespaces="+w.ns)
	w.waitReady(d)
	foreign := elsewhere.newPod("foreign")
	foreign.Spec.NodeName = w.node
	foreign = elsewhere.create(foreign)
	f := w.tokenFiles(w.create(w.newPod("pod")))[0]
	w.must(w.review(f, w.waitFile(f.Path)))
	if path := w.tokenFiles(foreign)[0].Path; w.exists(path) {
		t.Errorf("a Pod of another namespace has %s", path)
	}
	node := i.thief(token, "system:node:"+w.node)
	i.try([]attempt{{"a token of a namespace that is not chosen", requestToken(node, elsewhere.ns, foreign), apierrors.IsForbidden}})
}
