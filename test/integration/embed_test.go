package integration

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/token-projector/token-projector/agent"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/embed/inmemory"
	"github.com/token-projector/token-projector/test/embed/whole"
	"github.com/token-projector/token-projector/test/referee"
)

// fast rotates a token of ten minutes every second and a half.
func fast() rotation.Policy {
	return rotation.Policy{Fraction: .8, MaxAge: 1500 * time.Millisecond, Spread: rotation.SpreadNone}
}

// logger writes to the test's log.
func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.Output(), nil)) }

// sent is one content of a volume that a provider was given.
type sent struct {
	at    types.UID
	files []atomicdir.File
}

func (s sent) file(path string) string {
	for _, f := range s.files {
		if f.Path == path {
			return string(f.Data)
		}
	}
	return ""
}

// TestEmbedInMemory: the code of docs/embedding.md for providers without a shared file
// system, as a node, has each token reviewed by the API server.
func TestEmbedInMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	pod := w.newPod("web")
	ca := corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: payload.RootCAConfigMap}}}
	pod = w.create(withVolume(pod, nil, tokenSource("vault", 600, "token"), ca))
	config, err := clientcmd.BuildConfigFromFlags("", w.nodeKubeconfig())
	w.must(err)
	tokens, err := inmemory.NewTokens(config, fast())
	w.must(err)
	contents := make(chan sent)
	p := &inmemory.Provider{
		Tokens: tokens, Logger: w.logger(),
		ConfigMap: func(namespace, name string) (*corev1.ConfigMap, error) {
			return w.client.CoreV1().ConfigMaps(namespace).Get(w.ctx, name, metav1.GetOptions{})
		},
		Send: func(ctx context.Context, pod *corev1.Pod, _ string, files []atomicdir.File) error {
			select {
			case contents <- sent{pod.UID, files}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
	v, ok := payload.Find(pod, "v")
	if !ok {
		t.Fatal("the Pod has no such volume")
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Follow(ctx, pod, v, make(chan struct{}, 1))
	}()

	file := referee.TokenFiles(pod, "")[0]
	var seen []string
	for range 4 {
		content := receive(w, contents)
		token := content.file("token")
		w.must(w.review(file, token))
		if slices.Contains(seen, token) {
			t.Error("a token was sent twice")
		}
		if content.at != pod.UID || len(content.files) != 2 || content.file("ca.crt") == "" {
			t.Errorf("files %v for Pod %s", content.files, content.at)
		}
		seen = append(seen, token)
	}
	cancel()
	<-done
	tokens.ForgetPod(string(pod.UID))
	if held, _, _ := tokens.Held(); held != 0 {
		t.Errorf("%d tokens are held of a Pod that is gone", held)
	}
}

// receive waits for what another goroutine sends.
func receive[T any](w *world, from <-chan T) T {
	w.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		w.Fatalf("waited %s", patience)
		panic("unreachable")
	}
}

// TestEmbedWhole: the runtime of docs/embedding.md keeps a Pod's volume in this
// process, and a second process (the same, connected anew) takes it over without a
// TokenRequest.
func TestEmbedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	pod := w.create(w.newPod("web"))
	other := w.create(w.newPod("nobody-asked-for-it"))

	first := w.serve(pod, fast())
	directories, err := first.runtime.Prepare(w.ctx, pod)
	w.must(err)
	files := w.tokenFiles(pod)
	if len(files) != 1 || len(directories) != 1 {
		t.Fatalf("files %v, directories %v", files, directories)
	}
	seen := map[string]bool{}
	for range 4 {
		var token string
		w.eventually("a token that was not seen yet", func() bool { token = w.waitFile(files[0].Path); return !seen[token] })
		w.must(w.review(files[0], token))
		seen[token] = true
	}
	first.stop()
	if n := first.requests(); n < 4 {
		t.Errorf("%d token requests by the agent's own metrics, want at least 4", n)
	}

	before := w.inodes()
	second := w.serve(pod, rotation.DefaultPolicy())
	again, err := second.runtime.Prepare(w.ctx, pod)
	w.must(err)
	for name, path := range directories {
		if again[name] != path {
			t.Errorf("volume %s is at %s after a restart, was at %s", name, again[name], path)
		}
	}
	if after := w.inodes(); !slices.Equal(before, after) {
		t.Errorf("files changed by a restart:\n%v\n%v", before, after)
	}
	if n := second.requests(); n != 0 {
		t.Errorf("%d token requests after a restart, want none", n)
	}
	if w.exists(w.tokenFiles(other)[0].Path) {
		t.Error("a Pod has a volume that nobody asked for")
	}
	w.must(second.runtime.Remove(w.ctx, pod))
	for _, path := range directories {
		if w.exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	second.stop()
}

// embedded is a runtime that runs in this process.
type embedded struct {
	w        *world
	runtime  *whole.Runtime
	registry *prometheus.Registry
	stop     func()
}

// serve runs one, which prepares a Pod as soon as it may.
func (w *world) serve(pod *corev1.Pod, policy rotation.Policy) *embedded {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	e := &embedded{w: w, registry: prometheus.NewRegistry()}
	ready, ended := make(chan *whole.Runtime, 1), make(chan error, 1)
	go func() {
		ended <- whole.Serve(ctx, w.root(), agent.Config{
			Cluster: kube.Options{Kubeconfig: w.nodeKubeconfig(), NodeName: w.node, UserAgent: "embedded"},
			Policy:  policy, Logger: w.logger(), Metrics: e.registry,
		}, func(ctx context.Context, r *whole.Runtime) error {
			_, err := r.Prepare(ctx, pod)
			ready <- r
			return err
		})
	}()
	stopped := false
	e.stop = func() {
		if cancel(); !stopped {
			stopped = true
			w.must(<-ended)
		}
	}
	w.Cleanup(e.stop)
	e.runtime = receive(w, ready)
	return e
}

// requests is how many TokenRequests the agent has counted.
func (e *embedded) requests() int {
	families, err := e.registry.Gather()
	e.w.must(err)
	for _, f := range families {
		if f.GetName() != "projectord_token_request_duration_seconds" {
			continue
		}
		n := uint64(0)
		for _, m := range f.GetMetric() {
			n += m.GetHistogram().GetSampleCount()
		}
		return int(n)
	}
	e.w.Fatal("the agent has no metric of token requests")
	return 0
}
