package integration

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// inspected is what the tests read of `projectorctl inspect -o json`.
type inspected struct {
	Kind, Issuer, DeadlineClaim string
	Due                         time.Time
	Expired                     bool
	Signature                   *struct{ Valid bool }
	Review                      *struct {
		Authenticated bool
		User          string
	}
	Generation string
	Problems   []string
	Files      []struct {
		Path, Mode string
		Token      *inspected
	}
}

// projectorctl runs the program and returns what it prints.
func (w *world) projectorctl(args ...string) string {
	w.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(w.ctx, ctl, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("projectorctl %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

func (w *world) inspect(args ...string) inspected {
	w.Helper()
	var got inspected
	w.must(json.Unmarshal([]byte(w.projectorctl(append([]string{"inspect", "-o", "json"}, args...)...)), &got))
	return got
}

// TestMountableSecretsAndLegacyTokensChangeNothing: with the annotation
// enforce-mountable-secrets, and a token Secret of the same ServiceAccount, the
// projected volume is what it always is; inspect tells the two tokens apart.
func TestMountableSecretsAndLegacyTokensChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady()
	account, err := w.client.CoreV1().ServiceAccounts(w.ns).Get(w.ctx, "default", metav1.GetOptions{})
	w.must(err)
	account.Annotations = map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}
	_, err = w.client.CoreV1().ServiceAccounts(w.ns).Update(w.ctx, account, metav1.UpdateOptions{})
	w.must(err)
	_, err = w.client.CoreV1().Secrets(w.ns).Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "legacy", Annotations: map[string]string{"kubernetes.io/service-account.name": "default"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}, metav1.CreateOptions{})
	w.must(err)
	var legacy string
	w.eventually("the token controller to fill the Secret", func() bool {
		secret, err := w.client.CoreV1().Secrets(w.ns).Get(w.ctx, "legacy", metav1.GetOptions{})
		w.must(err)
		legacy = string(secret.Data["token"])
		return legacy != ""
	})
	pod := w.create(w.newPod("pod"))
	f := w.tokenFiles(pod)[0]
	token := w.waitFile(f.Path)
	w.must(w.review(f, token))

	admin, err := w.cluster.AdminKubeconfig()
	w.must(err)
	volume := w.inspect("--review", "--kubeconfig", admin, filepath.Dir(f.Path))
	if len(volume.Problems) != 0 || volume.Generation == "" || len(volume.Files) != 3 {
		t.Errorf("volume %+v", volume)
	}
	due := w.nextRotation(d, "published volume")
	for _, file := range volume.Files {
		if file.Token != nil && !file.Token.Due.Equal(due) {
			t.Errorf("inspect says that %s is due at %v, the daemon at %v", file.Path, file.Token.Due, due)
		}
		if (file.Path == "token") != (file.Token != nil) {
			t.Errorf("file %s has token %v", file.Path, file.Token)
		}
		if file.Token != nil && (file.Token.Kind != "extended" || file.Token.DeadlineClaim != "kubernetes.io.warnafter" ||
			file.Token.Review == nil || file.Token.Review.User != f.User) {
			t.Errorf("token %+v, review %+v", file.Token, file.Token.Review)
		}
	}
	cmd := exec.CommandContext(w.ctx, ctl, "inspect", "-")
	cmd.Stdin = strings.NewReader(legacy)
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "legacy: from a Secret, never expires") {
		t.Errorf("the legacy token is %q, %v", out, err)
	}
}

// TestPermissions: a projected token authenticates, and what it may do is
// RBAC's business, across namespaces too.
func TestPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	pod := w.create(w.newPod("pod"))
	f := w.tokenFiles(pod)[0]
	w.waitFile(f.Path)
	cfg := rest.AnonymousClientConfig(w.cluster.AdminConfig())
	cfg.BearerTokenFile = f.Path
	client, err := kubernetes.NewForConfig(cfg)
	w.must(err)
	other := newWorld(t, shared).ns
	doc := w.newDocument()
	doc.names[other] = "reports"
	reports := "/api/v1/namespaces/" + other + "/configmaps?limit=1"
	doc.put("forbidden", doc.curl(f.Path, reports, nil))
	list := func(ns string) error {
		_, err := client.CoreV1().ConfigMaps(ns).List(w.ctx, metav1.ListOptions{})
		return err
	}
	if err := list(other); !apierrors.IsForbidden(err) {
		t.Fatalf("without a role: %v, want 403", err)
	}
	_, err = w.client.RbacV1().Roles(other).Create(w.ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}},
	}, metav1.CreateOptions{})
	w.must(err)
	_, err = w.client.RbacV1().RoleBindings(other).Create(w.ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.ns, Name: "default"}},
	}, metav1.CreateOptions{})
	w.must(err)
	w.eventually("the role to take effect", func() bool { return list(other) == nil })
	doc.put("allowed", doc.curl(f.Path, reports, regexp.MustCompile(`"(kind|name)":`)))
	doc.compare()
	if _, err := client.CoreV1().ConfigMaps(other).Get(w.ctx, "kube-root-ca.crt", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("get, which the role does not say: %v, want 403", err)
	}
	if _, err := client.CoreV1().Secrets(other).List(w.ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("secrets, which the role does not say: %v, want 403", err)
	}
	if err := list(w.ns); !apierrors.IsForbidden(err) {
		t.Errorf("in its own namespace, where it has no role: %v, want 403", err)
	}
}
