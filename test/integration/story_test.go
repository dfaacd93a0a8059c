package integration

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTokensDocument runs the commands of the story that docs/tokens.md tells.
// Some tests of this package that show more of it add their output there.
func TestTokensDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	admin, err := w.cluster.AdminKubeconfig()
	w.must(err)
	keys := filepath.Join(w.dir, "keys.json")
	jwks, err := w.client.Discovery().RESTClient().Get().AbsPath("/openid/v1/jwks").Do(w.ctx).Raw()
	w.must(err)
	w.must(os.WriteFile(keys, jwks, 0600))

	doc := w.newDocument()
	pod := w.create(w.newPod("web"))
	f := w.tokenFiles(pod)[0]
	kept := filepath.Join(w.dir, "kept")
	w.must(os.WriteFile(kept, []byte(w.waitFile(f.Path)), 0600))
	volume := filepath.Dir(f.Path)
	maps.Copy(doc.names, map[string]string{
		admin: "admin.conf", keys: "keys.json", kept: "kept-token",
	})
	doc.run("volume", "inspect", volume)
	doc.put("discovery", doc.curl(f.Path, "/.well-known/openid-configuration", nil))
	doc.run("review", "inspect", "--review", "--kubeconfig", admin, f.Path)

	w.deletePod(pod)
	w.create(w.newPod("web"))
	w.eventually("the token to be refused", func() bool { return w.review(f, w.waitFile(kept)) != nil })
	doc.run("refused", "inspect", "--review", "--kubeconfig", admin, kept)
	doc.run("offline", "inspect", "--jwks", keys, kept)

	vault := w.create(withVolume(w.newPod("vault-agent"), nil, tokenSource("vault", 600, "token")))
	path := w.tokenFiles(vault)[0].Path
	w.waitFile(path)
	doc.run("audience", "inspect", path)

	_, err = w.client.CoreV1().Secrets(w.ns).Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "old", Annotations: map[string]string{"kubernetes.io/service-account.name": "default"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}, metav1.CreateOptions{})
	w.must(err)
	legacy := filepath.Join(w.dir, "legacy")
	w.eventually("the token controller to fill the Secret", func() bool {
		secret, err := w.client.CoreV1().Secrets(w.ns).Get(w.ctx, "old", metav1.GetOptions{})
		w.must(err)
		w.must(os.WriteFile(legacy, secret.Data["token"], 0600))
		return len(secret.Data["token"]) > 0
	})
	doc.names[legacy] = "legacy-token"
	doc.run("legacy", "inspect", legacy)

	doc.compare()
}
