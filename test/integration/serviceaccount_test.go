package integration

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/token-projector/token-projector/test/daemon"
)

// denied says whether it was a policy that refused, for this reason.
func denied(says string) func(error) bool {
	return func(err error) bool {
		return apierrors.IsInvalid(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy") && strings.Contains(err.Error(), says)
	}
}

// changed is requestToken with a change of a request that is right.
func changed(client kubernetes.Interface, namespace, account string, pod *corev1.Pod, change func(*authenticationv1.TokenRequestSpec)) func(context.Context) error {
	return func(ctx context.Context) error {
		request := boundTo(pod)
		change(&request.Spec)
		_, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
		return err
	}
}

// TestThiefOfAServiceAccountsToken: what somebody can do who has the token of the
// DaemonSet's Pod where it has rights of its own, and what the policy refuses.
func TestThiefOfAServiceAccountsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	i := w.install("overlays/serviceaccount")
	own := i.podOn(w.node)
	other := w.node + "-other"
	w.createNode(other)
	i.podOn(other)
	foreignOwn, err := w.client.CoreV1().Pods(i.name).Get(w.ctx, "projectord-"+other, metav1.GetOptions{})
	w.must(err)
	here := w.create(w.newPod("here"))
	pod := w.newPod("there")
	pod.Spec.NodeName = other
	there := w.create(pod)
	thief := i.thief(i.token(own), "")
	unbound, err := w.client.CoreV1().ServiceAccounts(i.name).CreateToken(w.ctx, i.name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	w.must(err)

	self := func(bound *corev1.Pod) func(context.Context) error {
		return changed(thief, i.name, i.name, bound, func(*authenticationv1.TokenRequestSpec) {})
	}
	w.waitPolicy(self(own))
	spec := func(change func(*authenticationv1.TokenRequestSpec)) func(context.Context) error {
		return changed(thief, w.ns, "default", here, change)
	}
	kubeSystem := here.DeepCopy()
	i.try([]attempt{
		{"a token for a Pod of the node", requestToken(thief, w.ns, here), nil},
		{"an allowed audience", requestToken(thief, w.ns, here, "https://kubernetes.default.svc"), nil},
		// This is what the policy can't see: see TestStrictPolicy.
		{"a token for a Pod of another node", requestToken(thief, w.ns, there), nil},

		{"the specs of all Pods", func(ctx context.Context) error {
			_, err := thief.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
			return err
		}, nil},
		// It ends with its Pod, but its claim exp is a year ahead.
		{"a token of 3607 s", spec(func(s *authenticationv1.TokenRequestSpec) { s.ExpirationSeconds = new(int64(3607)) }), nil},

		{"a token of its own", self(own), denied("no token of its own ServiceAccount")},
		{"a token of its own, for another node", self(foreignOwn), denied("no token of its own ServiceAccount")},
		{"a token bound to no Pod", requestToken(thief, w.ns, nil), denied("must be bound to a Pod")},
		{"a token bound to a Node", spec(func(s *authenticationv1.TokenRequestSpec) {
			s.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: other}
		}), denied("must be bound to a Pod")},
		{"a token bound to a Secret", spec(func(s *authenticationv1.TokenRequestSpec) { s.BoundObjectRef.Kind = "Secret" }), denied("must be bound to a Pod")},
		{"a token bound by name only", spec(func(s *authenticationv1.TokenRequestSpec) { s.BoundObjectRef.UID = "" }), denied("must be bound to a Pod")},
		{"another audience", requestToken(thief, w.ns, here, "vault"), denied("the audiences vault")},
		{"an allowed audience and another", requestToken(thief, w.ns, here, "https://kubernetes.default.svc", "vault"), denied("the audiences")},
		{"a token for 25 hours", spec(func(s *authenticationv1.TokenRequestSpec) { s.ExpirationSeconds = new(int64(90000)) }), denied("more than 86400 s")},
		{"a token of kube-system", changed(thief, "kube-system", "default", kubeSystem, func(*authenticationv1.TokenRequestSpec) {}), denied("no token of namespace kube-system")},
		{"a token, with one of its own that is bound to no Pod", requestToken(i.thief(unbound.Status.Token, ""), w.ns, here), denied("the token of its own Pod")},
		{"a Secret", getSecret(thief, w.ns, "any"), apierrors.IsForbidden},
		{"an administrator's token bound to no Pod", requestToken(w.client, w.ns, nil), nil},
		{"a ConfigMap", func(ctx context.Context) error {
			_, err := thief.CoreV1().ConfigMaps(w.ns).List(ctx, metav1.ListOptions{})
			return err
		}, apierrors.IsForbidden},
	})
}

// waitPolicy waits until a policy counts, by something that it denies.
func (w *world) waitPolicy(do func(context.Context) error) {
	w.Helper()
	w.eventually("the policy to count", func() bool { return denied("")(do(w.ctx)) })
}

// TestStrictPolicy: what a policy refuses that compares with the Pod.
func TestStrictPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	i := w.install("overlays/strict-policy")
	other := w.node + "-other"
	w.createNode(other)
	w.must(func() error {
		_, err := w.client.CoreV1().ServiceAccounts(w.ns).Create(w.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "app"}}, metav1.CreateOptions{})
		return err
	}())
	here := w.create(w.newPod("here"))
	pod := w.newPod("there")
	pod.Spec.NodeName = other
	there := w.create(pod)
	none := false
	pod = w.newPod("without-tokens")
	pod.Spec.AutomountServiceAccountToken = &none
	without := w.create(pod)
	thief := i.thief(i.token(i.podOn(w.node)), "")
	w.waitPolicy(requestToken(thief, w.ns, there))
	replaced := here.DeepCopy()
	replaced.UID = there.UID
	empty := newWorld(t, shared)
	i.try([]attempt{
		{"an administrator's token in a namespace without Pods", requestToken(w.client, empty.ns, nil), nil},
		{"a token for a Pod of the node", requestToken(thief, w.ns, here), nil},
		{"a token for a Pod of another node", requestToken(thief, w.ns, there), denied("is not on the caller's node")},
		{"a token for a Pod that declares none", requestToken(thief, w.ns, without), denied("declares no token for this audience")},
		{"a token for a Pod with another UID", requestToken(thief, w.ns, replaced), denied("has another UID")},
		{"a token of another ServiceAccount", changed(thief, w.ns, "app", here, func(*authenticationv1.TokenRequestSpec) {}), denied("has another ServiceAccount")},
	})
}

// TestServiceAccountIdentity does the main job by the ServiceAccount's own rights.
func TestServiceAccountIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	i := w.install("overlays/strict-policy")
	own := i.podOn(w.node)
	token := i.token(own)
	w.waitPolicy(changed(i.thief(token, ""), i.name, i.name, own, func(*authenticationv1.TokenRequestSpec) {}))
	d := w.startWith(i.kubeconfig(token), "--identity=serviceaccount", "--rotation-max-age=10s")
	w.waitReady(d)
	w.waitChoice(d, "serviceaccount")
	f := w.tokenFiles(w.create(w.newPod("pod")))[0]
	last := w.waitFile(f.Path)
	w.must(w.review(f, last))
	w.eventually("a rotation", func() bool { return w.waitFile(f.Path) != last })
	w.must(w.review(f, w.waitFile(f.Path)))

	bad := w.newPod("bad")
	bad.Spec.Volumes = []corev1.Volume{{Name: "vault", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", Path: "token"}}},
	}}}}
	bad.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "vault", MountPath: "/vault"}}
	w.create(bad)
	w.waitLine(d, "what the policy denies", func(l daemon.Line) bool { return strings.Contains(l.Text("error"), "the audiences vault") })
	if strings.Contains(d.Log(), "no admission policy limits") {
		t.Error("it says that no policy limits it, but one does")
	}
}

// TestServiceAccountWithoutAPolicy says what that means.
func TestServiceAccountWithoutAPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	i := w.install("overlays/serviceaccount")
	admission := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	binding, err := admission.Get(w.ctx, i.name+"-token-requests", metav1.GetOptions{})
	w.must(err)
	own := i.podOn(w.node)
	token := i.token(own)
	self := changed(i.thief(token, ""), i.name, i.name, own, func(*authenticationv1.TokenRequestSpec) {})
	w.must(admission.Delete(w.ctx, binding.Name, metav1.DeleteOptions{}))
	w.eventually("the policy not to count", func() bool { return self(w.ctx) == nil })
	d := w.startWith(i.kubeconfig(token), "--identity=serviceaccount")
	w.waitReady(d)
	w.waitLine(d, "a warning", func(l daemon.Line) bool { return strings.HasPrefix(l.Text("msg"), "no admission policy limits") })

	// With rights in other namespaces only, nothing can be asked.
	w.must(d.Term())
	w.must(w.client.RbacV1().ClusterRoleBindings().Delete(w.ctx, i.name+"-serviceaccount-namespaces", metav1.DeleteOptions{}))
	w.eventually("the right to be gone", func() bool { return apierrors.IsForbidden(self(w.ctx)) })
	d = w.startWith(i.kubeconfig(token), "--identity=serviceaccount")
	w.waitReady(d)
	w.waitLine(d, "another warning", func(l daemon.Line) bool { return strings.HasPrefix(l.Text("msg"), "it can't be told") })
}

// TestAuto: with a ServiceAccount's token it impersonates, or says why it can't
// and does nothing else unless it is told to.
func TestAuto(t *testing.T) {
	t.Parallel()
	t.Run("as it can", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, shared)
		i := w.install("overlays/serviceaccount") // has the rights for both
		d := w.startWith(i.kubeconfig(i.token(i.podOn(w.node))))
		if impersonates() {
			w.waitReady(d)
			w.waitChoice(d, "impersonate")
			return
		}
		w.waitReason(d, "impersonation of the own node came with 1.36")
	})
	t.Run("by fallback", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, shared)
		i := w.install("overlays/serviceaccount")
		// Where it could impersonate, it must not want to for this test.
		w.must(w.client.RbacV1().ClusterRoleBindings().Delete(w.ctx, i.name, metav1.DeleteOptions{}))
		d := w.startWith(i.kubeconfig(i.token(i.podOn(w.node))), "--identity-fallback")
		w.waitReady(d)
		w.waitChoice(d, "serviceaccount")
		f := w.tokenFiles(w.create(w.newPod("pod")))[0]
		w.must(w.review(f, w.waitFile(f.Path)))
	})
	t.Run("fails closed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, shared)
		i := w.install("overlays/serviceaccount")
		w.must(w.client.RbacV1().ClusterRoleBindings().Delete(w.ctx, i.name, metav1.DeleteOptions{}))
		d := w.startWith(i.kubeconfig(i.token(i.podOn(w.node))))
		if impersonates() {
			w.waitReason(d, "refuses impersonation of the own node")
		} else {
			w.waitReason(d, "impersonation of the own node came with 1.36")
		}
		if status, _, err := d.Get(w.ctx, "/readyz"); err != nil || status != 503 {
			t.Errorf("/readyz says %d, %v", status, err)
		}
	})
	t.Run("another node's Pod", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, shared)
		i := w.install("base")
		w.createNode(w.node + "-other")
		d := w.startWith(i.kubeconfig(i.token(i.podOn(w.node + "-other"))))
		w.waitReason(d, "is of a Pod on node")
	})
}
