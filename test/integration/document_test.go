package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var update = flag.Bool("update", false, "rewrite the output in docs/tokens.md")

// TestTokensDocument runs the commands of docs/tokens.md and compares their
// output with what stands there; -update writes it there.
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

	doc := &document{world: w, blocks: map[string]string{}}
	pod := w.create(w.newPod("web"))
	f := w.tokenFiles(pod)[0]
	kept := filepath.Join(w.dir, "kept")
	w.must(os.WriteFile(kept, []byte(w.waitFile(f.Path)), 0600))
	volume := filepath.Dir(f.Path)
	doc.names = map[string]string{
		w.ns: "shop", w.node: "node-1", w.root(): "/var/lib/projectord", string(pod.UID): "…",
		filepath.Base(volume): "kube-api-access-…", admin: "admin.conf", keys: "keys.json", kept: "kept-token",
	}
	doc.run("volume", "inspect", volume)
	doc.run("review", "inspect", "--review", "--kubeconfig", admin, f.Path)

	w.deletePod(pod)
	w.create(w.newPod("web"))
	w.eventually("the token to be refused", func() bool { return w.review(f, w.waitFile(kept)) != nil })
	doc.run("refused", "inspect", "--review", "--kubeconfig", admin, kept)
	doc.run("offline", "inspect", "--jwks", keys, kept)

	vault := w.create(withVolume(w.newPod("vault-agent"), nil, tokenSource("vault", 600, "token")))
	path := w.tokenFiles(vault)[0].Path
	w.waitFile(path)
	doc.names[string(vault.UID)] = "…"
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

	doc.compare("../../docs/tokens.md")
}

// document collects the output of commands by the name of their block.
type document struct {
	*world
	names  map[string]string // what differs at each run -> what stands for it
	blocks map[string]string
}

// What else differs at each run.
var varying = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "…"},
	{regexp.MustCompile(`\.\.\d{4}(_\d\d){5}\.\d+`), "..…"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:]+Z \((in )?[0-9hms]+( ago)?\)`), "…"},
	{regexp.MustCompile(`\b\d+ bytes`), "… bytes"},
	{regexp.MustCompile(`key [A-Za-z0-9_-]{20,}`), "key …"},
}

func (d *document) run(block string, args ...string) {
	d.Helper()
	text := "$ projectorctl " + strings.Join(args, " ") + "\n" + d.projectorctl(args...)
	for from, to := range d.names {
		text = strings.ReplaceAll(text, from, to)
	}
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.by)
	}
	d.blocks[block] = fmt.Sprintf("<!-- begin %s -->\n```\n%s```\n<!-- end %s -->", block, text, block)
}

// compare looks for each block in the document.
func (d *document) compare(path string) {
	d.Helper()
	content, err := os.ReadFile(path)
	d.must(err)
	updated := string(content)
	for name, want := range d.blocks {
		pattern := regexp.MustCompile(`(?s)<!-- begin ` + name + ` -->.*<!-- end ` + name + ` -->`)
		got := pattern.FindString(updated)
		if got == "" {
			d.Errorf("%s has no block %s", path, name)
		} else if got != want {
			updated = strings.Replace(updated, got, want, 1)
			if !*update {
				d.Errorf("block %s of %s is not what the commands print now (run this test with -update):\n%s\nwant\n%s", name, path, got, want)
			}
		}
	}
	if *update {
		d.must(os.WriteFile(path, []byte(updated), 0644))
	}
}
