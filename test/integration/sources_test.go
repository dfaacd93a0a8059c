package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
)

func secretSource(name string) corev1.VolumeProjection {
	return corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
}

func (w *world) createSecret(name, password string) *corev1.Secret {
	w.Helper()
	secret, err := w.client.CoreV1().Secrets(w.ns).Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"password": password},
	}, metav1.CreateOptions{})
	w.must(err)
	return secret
}

// waitContent waits until a file has some content.
func (w *world) waitContent(path, want string) {
	w.Helper()
	w.eventually(path+" to be "+want, func() bool {
		b, err := os.ReadFile(path)
		return err == nil && string(b) == want
	})
}

// soon is the time within which a change must be on disk.
const soon = time.Second

// TestSecretSource: a Secret's files follow it within a second, its deletion
// leaves what was published, and its content is in no log.
func TestSecretSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady("--v=9")
	pod := w.create(withVolume(w.newPod("pod"), nil, tokenSource("", 3600, "token"), secretSource("s")))
	path := filepath.Join(w.volume(pod, "v"), "password")
	w.eventually("the event of the missing Secret", func() bool { return w.hasEvent(pod, "SourceUnavailable") })
	secret := w.createSecret("s", "swordfish-1")
	w.waitContent(path, "swordfish-1")
	w.eventually("the event of the recovery", func() bool { return w.hasEvent(pod, "TokenProjectionRecovered") })

	secret.Data = map[string][]byte{"password": []byte("swordfish-2")}
	start := time.Now()
	_, err := w.client.CoreV1().Secrets(w.ns).Update(w.ctx, secret, metav1.UpdateOptions{})
	w.must(err)
	w.waitContent(path, "swordfish-2")
	if took := time.Since(start); took > soon {
		t.Errorf("the change took %v to reach the file", took)
	}

	w.must(w.client.CoreV1().Secrets(w.ns).Delete(w.ctx, "s", metav1.DeleteOptions{}))
	_, err = d.WaitLine(w.ctx, "the loss", func(l daemon.Line) bool {
		return l.Text("phase") == "Degraded" && strings.Contains(l.Text("error"), `Secret "s"`)
	})
	w.must(err)
	w.waitContent(path, "swordfish-2")
	if strings.Contains(d.Log(), "swordfish") {
		t.Error("the Secret's content is in the log")
	}
}

// hasEvent says whether a Pod has an Event with a reason.
func (w *world) hasEvent(pod *corev1.Pod, reason string) bool {
	w.Helper()
	list, err := w.client.CoreV1().Events(w.ns).List(w.ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	w.must(err)
	found := 0
	for _, e := range list.Items {
		if e.Reason == reason {
			found++
		}
	}
	if found > 1 {
		w.Errorf("%d events with reason %s, want one for each change", found, reason)
	}
	return found == 1
}

// TestTrustBundleSource: the anchors of a signer, which follow its bundles.
func TestTrustBundleSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	signer := "example.com/" + w.ns
	bundle := func(name, anchor string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{
			ObjectMeta: metav1.ObjectMeta{Name: strings.ReplaceAll(signer, "/", ":") + ":" + name},
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: anchor},
		}
	}
	one, err := devcluster.TrustAnchor("one")
	w.must(err)
	two, err := devcluster.TrustAnchor("two")
	w.must(err)
	create := func(b *certificatesv1.ClusterTrustBundle) {
		t.Helper()
		_, err := w.client.CertificatesV1().ClusterTrustBundles().Create(w.ctx, b, metav1.CreateOptions{})
		w.must(err)
		t.Cleanup(func() {
			_ = w.client.CertificatesV1().ClusterTrustBundles().Delete(t.Context(), b.Name, metav1.DeleteOptions{})
		})
	}
	create(bundle("a", one))
	yes, absent := true, "absent"
	pod := w.create(withVolume(w.newPod("pod"), nil, tokenSource("", 3600, "token"),
		corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
			SignerName: &signer, LabelSelector: &metav1.LabelSelector{}, Path: "signer.pem",
		}},
		corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
			Name: &absent, Optional: &yes, Path: "absent.pem",
		}}))
	dir := w.volume(pod, "v")
	w.waitContent(filepath.Join(dir, "signer.pem"), one)
	w.waitContent(filepath.Join(dir, "absent.pem"), "")
	start := time.Now()
	create(bundle("b", two))
	w.eventually("both anchors", func() bool {
		text := w.waitFile(filepath.Join(dir, "signer.pem"))
		return len(text) == len(one)+len(two) && strings.Contains(text, one) && strings.Contains(text, two)
	})
	if took := time.Since(start); took > soon {
		t.Errorf("the change took %v to reach the file", took)
	}
}

// TestTrustBundlesThatAreNotServed: the volume says why it waits, and the
// server is not asked again and again. (An older server also drops the source
// from the Pod; that is not shown here.)
func TestTrustBundlesThatAreNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startCluster(t, "--runtime-config=certificates.k8s.io/v1/clustertrustbundles=false"))
	d := w.startReady()
	name := "any"
	w.create(withVolume(w.newPod("pod"), nil, tokenSource("", 3600, "token"),
		corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: &name, Path: "ca.pem"}}))
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	_, err := d.WaitLine(ctx, "the reason", func(l daemon.Line) bool {
		return strings.Contains(l.Text("error"), "not supported by this API server")
	})
	w.must(err)
	asked := func() int {
		return w.serverSum(func(line string) bool {
			return strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `resource="clustertrustbundles"`)
		})
	}
	before := asked()
	later := w.create(w.newPod("later"))
	w.waitFile(w.tokenFiles(later)[0].Path)
	if more := asked() - before; more != 0 {
		t.Errorf("it was asked %d times more", more)
	}
}

// TestDownwardAPISource: resources with divisors, the node's own where a limit
// is not set, and labels that follow the Pod within a second.
func TestDownwardAPISource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	node, err := w.client.CoreV1().Nodes().Get(w.ctx, w.node, metav1.GetOptions{})
	w.must(err)
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}
	_, err = w.client.CoreV1().Nodes().UpdateStatus(w.ctx, node, metav1.UpdateOptions{})
	w.must(err)
	w.startReady()
	ref := func(path, name, divisor string) corev1.DownwardAPIVolumeFile {
		return corev1.DownwardAPIVolumeFile{Path: path, ResourceFieldRef: &corev1.ResourceFieldSelector{
			ContainerName: "c", Resource: name, Divisor: resource.MustParse(divisor),
		}}
	}
	pod := withVolume(w.newPod("pod"), nil, tokenSource("", 3600, "token"),
		corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			ref("cpu", "limits.cpu", "1m"), ref("memory", "limits.memory", "1Mi"),
			{Path: "label", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['color']"}},
		}}})
	pod.Labels = map[string]string{"color": "blue"}
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	pod = w.create(pod)
	dir := w.volume(pod, "v")
	for name, want := range map[string]string{"cpu": "3000", "memory": "64", "label": "blue"} {
		w.waitContent(filepath.Join(dir, name), want)
	}
	start := time.Now()
	pod.Labels["color"] = "red"
	_, err = w.client.CoreV1().Pods(w.ns).Update(w.ctx, pod, metav1.UpdateOptions{})
	w.must(err)
	w.waitContent(filepath.Join(dir, "label"), "red")
	if took := time.Since(start); took > soon {
		t.Errorf("the change took %v to reach the file", took)
	}
}
