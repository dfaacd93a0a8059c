package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/referee"
)

// tokenReview is what the API server says of a token.
func (w *world) tokenReview(token string, audiences ...string) authenticationv1.TokenReviewStatus {
	w.Helper()
	review, err := w.client.AuthenticationV1().TokenReviews().Create(w.ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
	}, metav1.CreateOptions{})
	w.must(err)
	return review.Status
}

// withVolume gives a Pod a projected volume of its own at /v, in the place of
// the injected one.
func withVolume(pod *corev1.Pod, mode *int32, sources ...corev1.VolumeProjection) *corev1.Pod {
	no := false
	pod.Spec.AutomountServiceAccountToken = &no
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{DefaultMode: mode, Sources: sources},
	}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	return pod
}

func tokenSource(audience string, seconds int64, path string) corev1.VolumeProjection {
	return corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
		Audience: audience, ExpirationSeconds: &seconds, Path: path,
	}}
}

// reviewCache is how long the API server may remember that it accepted a token
// (10 s), and a little for a busy machine.
const reviewCache = 13 * time.Second

// TestBoundTokens: a projected token speaks for its ServiceAccount and names
// its Pod and node, and ends with that Pod and no other.
func TestBoundTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	pod := w.create(w.newPod("pod"))
	path := w.tokenFiles(pod)[0].Path
	token := w.waitFile(path)
	node, err := w.client.CoreV1().Nodes().Get(w.ctx, w.node, metav1.GetOptions{})
	w.must(err)

	status := w.tokenReview(token)
	if !status.Authenticated || status.User.Username != "system:serviceaccount:"+w.ns+":default" {
		t.Fatalf("review %+v", status)
	}
	for key, want := range map[string]string{
		"credential-id": "JTI=" + w.tokenID(token),
		"pod-name":      "pod", "pod-uid": string(pod.UID),
		"node-name": w.node, "node-uid": string(node.UID),
	} {
		if got := status.User.Extra["authentication.kubernetes.io/"+key]; !slices.Equal(got, []string{want}) {
			t.Errorf("extra %s is %q, want %q", key, got, want)
		}
	}

	assertRefused := func(when string) {
		t.Helper()
		start := time.Now()
		w.eventually("the token to be refused "+when, func() bool { return !w.tokenReview(token).Authenticated })
		if took := time.Since(start); took > reviewCache {
			t.Errorf("%s it was accepted for %v", when, took)
		}
		status := w.tokenReview(token)
		if status.Error == "" || status.User.Username != "" {
			t.Errorf("%s it has error %q and user %q, want an error and no user", when, status.Error, status.User.Username)
		}
	}
	w.deletePod(pod)
	assertRefused("after the Pod's end")
	again := w.create(w.newPod("pod"))
	assertRefused("when another Pod has its name")
	w.eventually("the old volume to go", func() bool { return !w.exists(filepath.Dir(path)) })
	fresh := w.tokenFiles(again)[0]
	w.must(w.review(fresh, w.waitFile(fresh.Path)))
}

// TestOptOut goes through automountServiceAccountToken on Pod and
// ServiceAccount, as the real admission plugin decides.
func TestOptOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	yes, no := true, false
	setting := func(b *bool) string {
		if b == nil {
			return "-"
		}
		return fmt.Sprint(*b)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-16s%-8s%s\n", "ServiceAccount", "Pod", "volume")
	for _, tt := range []struct {
		name         string
		account, pod *bool
		want         bool
	}{
		{"neither", nil, nil, true},
		{"pod-false", nil, &no, false},
		{"account-false", &no, nil, false},
		{"pod-true-over-account-false", &no, &yes, true},
		{"pod-false-over-account-true", &yes, &no, false},
	} {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: tt.name}, AutomountServiceAccountToken: tt.account}
		_, err := w.client.CoreV1().ServiceAccounts(w.ns).Create(w.ctx, account, metav1.CreateOptions{})
		w.must(err)
		pod := w.newPod(tt.name)
		pod.Spec.ServiceAccountName, pod.Spec.AutomountServiceAccountToken = tt.name, tt.pod
		pod = w.create(pod)
		files := w.tokenFiles(pod)
		if (len(files) == 1) != tt.want {
			t.Errorf("%s: admission gave %d token files, want any: %v", tt.name, len(files), tt.want)
		}
		for _, f := range files {
			w.must(w.review(f, w.waitFile(f.Path)))
		}
		// A Pod that comes later is served, so this one was looked at.
		later := w.create(w.newPod("after-" + tt.name))
		w.waitFile(w.tokenFiles(later)[0].Path)
		got := w.exists(filepath.Join(w.root(), "pods", string(pod.UID)))
		fmt.Fprintf(&table, "%-16s%-8s%v\n", setting(tt.account), setting(tt.pod), map[bool]string{true: "yes", false: "no"}[got])
		if got != tt.want {
			t.Errorf("%s: files there: %v, want %v", tt.name, got, tt.want)
		}
	}
	doc := w.newDocument()
	doc.put("opt-out", table.String())
	doc.compare()
}

// TestInjectedVolumeAndOneOfItsOwn: modes, paths and lifetimes of the volume
// that admission injects, and of one that the Pod brings.
func TestInjectedVolumeAndOneOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	injected := w.create(w.newPod("injected"))
	mode := int32(0400)
	own := w.create(withVolume(w.newPod("own"), &mode, tokenSource("", 7200, "deep/er/my-token")))
	for _, tt := range []struct {
		pod      *corev1.Pod
		files    map[string]os.FileMode
		lifetime time.Duration
	}{
		{injected, map[string]os.FileMode{"token": 0644, "ca.crt": 0644, "namespace": 0644}, 3607 * time.Second},
		{own, map[string]os.FileMode{"deep/er/my-token": 0400}, 7200 * time.Second},
	} {
		f := w.tokenFiles(tt.pod)[0]
		claims, err := rotation.ParseClaims(w.waitFile(f.Path))
		w.must(err)
		if claims.Lifetime() != tt.lifetime {
			t.Errorf("%s: lifetime %v, want %v", tt.pod.Name, claims.Lifetime(), tt.lifetime)
		}
		dir := w.volume(tt.pod, tt.pod.Spec.Volumes[0].Name)
		for name, want := range tt.files {
			info, err := os.Stat(filepath.Join(dir, name))
			w.must(err)
			if info.Mode().Perm() != want {
				t.Errorf("%s: %s has mode %v, want %v", tt.pod.Name, name, info.Mode().Perm(), want)
			}
		}
		count := 0
		current, err := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
		w.must(err)
		w.must(filepath.WalkDir(current, func(_ string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				count++
			}
			return err
		}))
		if count != len(tt.files) {
			t.Errorf("%s: %d files, want %d", tt.pod.Name, count, len(tt.files))
		}
	}
}

// startCluster runs a control plane of the test's own.
func startCluster(t *testing.T, args ...string) *devcluster.Cluster {
	t.Helper()
	cluster, err := devcluster.Start(t.Context(), devcluster.Config{APIServerArgs: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

// TestExtendedToken: rotation follows the deadline that was granted, not exp,
// both when a token is minted and when it is read back.
func TestExtendedToken(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	tests := []struct {
		name    string
		block   string // of docs/tokens.md
		cluster func(t *testing.T) *devcluster.Cluster
		ask     int64
		exp     time.Duration // exp - iat
		granted time.Duration
	}{
		{"the server's default", "", func(*testing.T) *devcluster.Cluster { return shared }, 3607, year, 3607 * time.Second},
		{"extension off", "extension-off", func(t *testing.T) *devcluster.Cluster {
			return startCluster(t, "--service-account-extend-token-expiration=false")
		}, 3607, 3607 * time.Second, 3607 * time.Second},
		{"a maximum of two hours", "maximum", func(t *testing.T) *devcluster.Cluster {
			return startCluster(t, "--service-account-max-token-expiration=2h")
		}, 24 * 3600, 2 * time.Hour, 2 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.cluster(t))
			first := w.startReady()
			pod := w.create(withVolume(w.newPod("pod"), nil, tokenSource("", tt.ask, "token")))
			claims, err := rotation.ParseClaims(w.waitFile(w.tokenFiles(pod)[0].Path))
			w.must(err)
			if got := claims.ExpiresAt.Sub(claims.IssuedAt); got != tt.exp {
				t.Errorf("exp is %v after iat, want %v", got, tt.exp)
			}
			if claims.Lifetime() != tt.granted {
				t.Errorf("the granted lifetime is %v, want %v", claims.Lifetime(), tt.granted)
			}
			deadline := w.deadline(first)
			if off := deadline.Sub(claims.IssuedAt.Add(tt.granted)).Abs(); off > 3*time.Second {
				t.Errorf("the daemon's deadline is %v off what was granted", off)
			}
			due := w.nextRotation(first, "published volume")
			if early, late := claims.IssuedAt, claims.IssuedAt.Add(tt.granted*8/10+3*time.Second); !due.After(early) || due.After(late) {
				t.Errorf("due at %v, want within 80%% of what was granted, %v to %v", due, early, late)
			}
			if tt.block != "" {
				doc := w.newDocument()
				doc.run(tt.block, "inspect", w.tokenFiles(pod)[0].Path)
				doc.compare()
			}
			w.must(first.Term())
			second := w.startReady()
			if again := w.deadline(second); !again.Equal(deadline) {
				t.Errorf("read back, the deadline is %v, when minted it was %v", again, deadline)
			}
			if again := w.nextRotation(second, "adopted volume"); !again.Equal(due) {
				t.Errorf("read back, it is due at %v, when minted it was %v", again, due)
			}
		})
	}
}

// TestAudiencesAndVerification: a token is good for its audience only, online
// by TokenReview and offline by the API server's own discovery and keys; only
// the former knows that the Pod is gone.
func TestAudiencesAndVerification(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	pod := w.create(withVolume(w.newPod("pod"), nil, tokenSource("vault", 600, "token")))
	f := w.tokenFiles(pod)[0]
	w.must(w.review(f, w.waitFile(f.Path)))
	token := w.waitFile(f.Path)
	for _, audience := range []string{"other", ""} {
		f.Audience = audience
		if err := w.review(f, token); !errors.Is(err, referee.ErrRefused) {
			t.Errorf("for audience %q: %v, want a refusal", audience, err)
		}
	}

	raw := func(path string) []byte {
		body, err := w.client.Discovery().RESTClient().Get().AbsPath(path).Do(w.ctx).Raw()
		w.must(err)
		return body
	}
	var discovery struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	w.must(json.Unmarshal(raw("/.well-known/openid-configuration"), &discovery))
	if !strings.HasSuffix(discovery.JWKSURI, "/openid/v1/jwks") {
		t.Errorf("discovery names the keys at %q", discovery.JWKSURI)
	}
	jwks := filepath.Join(w.dir, "jwks.json")
	keys, err := url.Parse(discovery.JWKSURI)
	w.must(err)
	w.must(os.WriteFile(jwks, raw(keys.Path), 0600))
	kept := filepath.Join(w.dir, "kept")
	w.must(os.WriteFile(kept, []byte(token), 0600))
	offline := func() inspected { return w.inspect("--jwks", jwks, kept) }
	if got := offline(); got.Signature == nil || !got.Signature.Valid || got.Issuer != discovery.Issuer {
		t.Errorf("offline: %+v", got)
	}

	w.deletePod(pod)
	start := time.Now()
	w.eventually("TokenReview to refuse it", func() bool { return !w.tokenReview(token, "vault").Authenticated })
	if took := time.Since(start); took > reviewCache {
		t.Errorf("TokenReview accepted it for %v", took)
	}
	if got := offline(); !got.Signature.Valid || got.Expired {
		t.Errorf("offline, after the Pod's end: %+v; the keys can't know that it is gone", got)
	}
	w.must(os.WriteFile(kept, []byte(w.aged(token, 2*time.Hour)), 0600))
	if got := offline(); !got.Signature.Valid || !got.Expired {
		t.Errorf("offline, past exp: %+v", got)
	}
}

// nextRotation is when the daemon says that its one token is due, in the line
// of its log with this message.
func (w *world) nextRotation(d *daemon.Daemon, message string) time.Time {
	w.Helper()
	line, err := d.WaitLine(w.ctx, message, func(l daemon.Line) bool { return l.Text("msg") == message })
	w.must(err)
	due, err := time.Parse(time.RFC3339Nano, line.Text("next_rotation"))
	w.must(err)
	return due
}

// deadline is when the daemon says that its one token lapses.
func (w *world) deadline(d interface {
	Get(ctx context.Context, path string) (int, string, error)
}) time.Time {
	w.Helper()
	var value float64
	w.eventually("the daemon's deadline", func() bool {
		_, body, err := d.Get(w.ctx, "/metrics")
		w.must(err)
		_, rest, found := strings.Cut(body, "\nprojectord_earliest_token_deadline_timestamp_seconds ")
		if !found {
			return false
		}
		line, _, _ := strings.Cut(rest, "\n")
		w.must(json.Unmarshal([]byte(line), &value))
		return true
	})
	return time.Unix(int64(value), 0)
}
