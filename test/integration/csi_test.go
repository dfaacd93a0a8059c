package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/isolate"
)

// kubelet is a kubelet as far as a CSI driver sees it: test/e2e has a real one.
type kubelet struct {
	*world
	dir  string
	node csi.NodeClient
}

// startCSI runs projectord as the DaemonSet of a kustomization does, with the CSI
// driver.
func (i *installation) startCSI(flags ...string) *kubelet {
	i.Helper()
	if os.Geteuid() != 0 {
		i.Skip("needs root to mount")
	}
	dir := i.TempDir()
	i.Cleanup(func() { i.must(isolate.UnmountBelow(dir)) })
	i.must(os.Mkdir(filepath.Join(dir, "plugins_registry"), 0750))
	socket := "unix://" + filepath.Join(dir, "csi.sock")
	d := i.startWith(append([]string{i.kubeconfig(i.token(i.podOn(i.node))), "--csi-endpoint=" + socket, "--kubelet-dir=" + dir, "--pod-source=none"}, flags...)...)
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	i.must(err)
	i.Cleanup(func() { _ = conn.Close() })
	i.waitReady(d)
	return &kubelet{world: i.world, dir: dir, node: csi.NewNodeClient(conn)}
}

// csiPod creates a Pod with a volume of the driver, and no other token.
func (w *world) csiPod(name, sources string) *corev1.Pod {
	w.Helper()
	pod := w.newPod(name)
	pod.Spec.AutomountServiceAccountToken = new(false)
	source := &corev1.CSIVolumeSource{Driver: "csi.token-projector.io", ReadOnly: new(true)}
	if sources != "" {
		source.VolumeAttributes = map[string]string{"sources": sources}
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "tokens", VolumeSource: corev1.VolumeSource{CSI: source}}}
	return w.create(pod)
}

func (k *kubelet) target(pod *corev1.Pod) string {
	return filepath.Join(k.dir, "pods", string(pod.UID), "volumes/kubernetes.io~csi/tokens/mount")
}

// publish asks for a Pod's volume as a kubelet does, with what change makes of it.
func (k *kubelet) publish(pod *corev1.Pod, change func(*csi.NodePublishVolumeRequest)) error {
	k.Helper()
	attributes := map[string]string{"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.uid": string(pod.UID)}
	for name, value := range pod.Spec.Volumes[0].CSI.VolumeAttributes {
		attributes[name] = value
	}
	request := &csi.NodePublishVolumeRequest{
		VolumeId: "csi-1", TargetPath: k.target(pod), Readonly: true, VolumeContext: attributes,
		VolumeCapability: &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}},
	}
	if change != nil {
		change(request)
	}
	// The kubelet has made the directory above it.
	k.must(os.MkdirAll(filepath.Dir(k.target(pod)), 0750))
	ctx, cancel := context.WithTimeout(k.ctx, patience)
	defer cancel()
	_, err := k.node.NodePublishVolume(ctx, request)
	return err
}

func (k *kubelet) unpublish(pod *corev1.Pod) {
	k.Helper()
	_, err := k.node.NodeUnpublishVolume(k.ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: k.target(pod)})
	k.must(err)
	if k.exists(k.target(pod)) {
		k.Errorf("%s is left", k.target(pod))
	}
}

// published publishes, waits for rights to count, and returns a file's content.
func (k *kubelet) published(pod *corev1.Pod, file string) string {
	k.Helper()
	k.eventually("the volume of "+pod.Name, func() bool {
		err := k.publish(pod, nil)
		if err != nil && status.Code(err) != codes.PermissionDenied {
			k.Fatal(err)
		}
		return err == nil
	})
	return k.waitFile(filepath.Join(k.target(pod), file))
}

// refused says that a publish fails, how, and that nothing is left of it.
func (k *kubelet) refused(pod *corev1.Pod, change func(*csi.NodePublishVolumeRequest), code codes.Code, says string) {
	k.Helper()
	if err := k.publish(pod, change); status.Code(err) != code || !strings.Contains(err.Error(), says) {
		k.Errorf("Pod %s: error %v, want %s and %q", pod.Name, err, code, says)
	}
	if k.exists(k.target(pod)) {
		k.Errorf("%s is left", k.target(pod))
	}
}

// grant binds a ClusterRole in the world's namespace.
func (w *world) grant(role string, subject rbacv1.Subject) {
	w.Helper()
	_, err := w.client.RbacV1().RoleBindings(w.ns).Create(w.ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{subject},
	}, metav1.CreateOptions{})
	w.must(err)
}

// TestCSIAudiences: the API server's own as it is installed, others where they are
// granted.
func TestCSIAudiences(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.needsImpersonation()
	k := w.install("csi").startCSI()
	own := w.csiPod("own", "")
	if token := k.published(own, "token"); !strings.HasPrefix(token, "eyJ") {
		t.Errorf("the token is %q", token)
	}
	vault := w.csiPod("vault", "- serviceAccountToken: {path: t, audience: vault}")
	k.refused(vault, nil, codes.PermissionDenied, `audience "vault"`)

	_, err := w.client.RbacV1().ClusterRoles().Create(w.ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "vault-" + w.ns},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"vault"}, Verbs: []string{"request-serviceaccounts-token-audience"}}},
	}, metav1.CreateOptions{})
	w.must(err)
	w.grant("vault-"+w.ns, rbacv1.Subject{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "system:nodes"})
	if token := k.published(vault, "t"); !strings.HasPrefix(token, "eyJ") {
		t.Errorf("the token is %q", token)
	}
	k.unpublish(own)
	k.unpublish(vault)
}

// TestServiceAccountWithCSI: on older API servers.
func TestServiceAccountWithCSI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.install("csi")
	k := w.install("overlays/serviceaccount").startCSI("--identity=serviceaccount")
	pod := w.csiPod("pod", "")
	if token := k.published(pod, "token"); !strings.HasPrefix(token, "eyJ") {
		t.Errorf("the token is %q", token)
	}
	k.unpublish(pod)
}

// TestCSIHostile: what a request says beyond what the Pod in the API does is not
// believed.
func TestCSIHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.needsImpersonation()
	k := w.install("csi").startCSI()
	pod, plain := w.csiPod("pod", ""), w.create(w.newPod("plain"))
	nobody := pod.DeepCopy()
	nobody.UID = "00000000-0000-0000-0000-000000000000"
	k.refused(nobody, nil, codes.NotFound, "no Pod with this UID")
	plain.Spec.Volumes = pod.Spec.Volumes
	k.refused(plain, nil, codes.FailedPrecondition, "declares no volume of csi.token-projector.io")
	k.refused(pod, func(r *csi.NodePublishVolumeRequest) {
		r.VolumeContext["csi.storage.k8s.io/pod.uid"] = string(plain.UID)
	},
		codes.InvalidArgument, "is not the Pod of target_path")

	// The Pod's own spec counts, whatever else the request has.
	w.must(k.publish(pod, func(r *csi.NodePublishVolumeRequest) {
		r.VolumeContext["sources"] = "- serviceAccountToken: {path: other, expirationSeconds: 700}"
		r.VolumeContext["csi.storage.k8s.io/serviceAccount.name"] = "other"
		r.VolumeContext["csi.storage.k8s.io/pod.namespace"] = "kube-system"
	}))
	claims, err := rotation.ParseClaims(w.waitFile(filepath.Join(k.target(pod), "token")))
	w.must(err)
	if claims.ServiceAccount.Name != "default" || claims.Namespace != w.ns || k.exists(filepath.Join(k.target(pod), "other")) {
		t.Errorf("the token is of ServiceAccount %s/%s", claims.Namespace, claims.ServiceAccount.Name)
	}
	k.unpublish(pod)
}

// TestCSIObjects: a ConfigMap and a Secret where the namespace's administrator
// lets the ServiceAccount read them.
func TestCSIObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.needsImpersonation()
	_, err := w.client.CoreV1().ConfigMaps(w.ns).Create(w.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "app"}, Data: map[string]string{"a": "from the ConfigMap"}}, metav1.CreateOptions{})
	w.must(err)
	_, err = w.client.CoreV1().Secrets(w.ns).Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "key"}, StringData: map[string]string{"b": "from the Secret"}}, metav1.CreateOptions{})
	w.must(err)
	pod := w.csiPod("pod", "[{serviceAccountToken: {path: token}}, {configMap: {name: app}}, {secret: {name: key}}]")

	i := w.install("overlays/csi-objects")
	k := i.startCSI("--csi-objects=all")
	k.refused(pod, nil, codes.PermissionDenied, "is forbidden")
	w.grant(i.name+"-csi-objects", rbacv1.Subject{Kind: "ServiceAccount", Namespace: i.name, Name: i.name})
	for file, want := range map[string]string{"a": "from the ConfigMap", "b": "from the Secret"} {
		if got := k.published(pod, file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	k.unpublish(pod)
}
