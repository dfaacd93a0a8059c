package inmemory

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// backend is where a Provider sends to, and what it fetches from. The API server is a
// fake: here it is broken on purpose; test/integration has the real one.
type backend struct {
	minter    rotationtest.Minter
	tokens    *rotation.Manager
	settings  atomic.Pointer[corev1.ConfigMap] // nil: there is none
	refuses   atomic.Bool
	tried     atomic.Int64
	got       []atomicdir.File
	contents  int
	changed   chan struct{}
	following context.CancelFunc
}

// follow has the volume of a Pod followed, with a token and a ConfigMap.
func follow(t *testing.T, b *backend) {
	var err error
	if b.tokens, err = rotation.NewManager(&b.minter, rotation.DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	p := &Provider{
		Tokens: b.tokens, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		ConfigMap: func(string, string) (*corev1.ConfigMap, error) {
			if found := b.settings.Load(); found != nil {
				return found, nil
			}
			return nil, errors.New("there is no such ConfigMap")
		},
		Send: func(_ context.Context, _ *corev1.Pod, _ string, files []atomicdir.File) error {
			b.tried.Add(1)
			if b.refuses.Load() {
				return errors.New("the backend is away")
			}
			b.got, b.contents = files, b.contents+1
			return nil
		},
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"}}
	v := payload.Volume{Name: "v", Source: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
	}}}
	b.changed = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go p.Follow(ctx, pod, v, b.changed)
	b.following = cancel
	synctest.Wait()
}

// want checks how many contents were sent, and what one file of the last one holds.
func (b *backend) want(t *testing.T, contents int, path, data string) {
	t.Helper()
	synctest.Wait()
	found := ""
	for _, f := range b.got {
		if f.Path == path {
			found = string(f.Data)
		}
	}
	if b.contents != contents || data != "" && found != data {
		t.Errorf("%d contents were sent, the last with %q at %s; want %d and %q", b.contents, found, path, contents, data)
	}
}

// pass lets time go by, and all that is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestFollow(t *testing.T) {
	settings := func(text string) *corev1.ConfigMap { return &corev1.ConfigMap{Data: map[string]string{"a": text}} }
	for name, test := range map[string]func(t *testing.T, b *backend){
		"nothing is sent until all is there": func(t *testing.T, b *backend) {
			follow(t, b)
			pass(10 * time.Second)
			b.want(t, 0, "", "")
			b.settings.Store(settings("one"))
			pass(time.Minute)
			b.want(t, 1, "a", "one")
		},
		"a change is sent at once, and what is gone stays": func(t *testing.T, b *backend) {
			b.settings.Store(settings("one"))
			follow(t, b)
			b.settings.Store(settings("two"))
			b.changed <- struct{}{}
			b.want(t, 2, "a", "two")
			b.settings.Store(nil)
			b.changed <- struct{}{}
			b.tokens.RotateAll(0)
			b.want(t, 3, "a", "two")
		},
		"tokens that are due early": func(t *testing.T, b *backend) {
			b.settings.Store(settings("one"))
			follow(t, b)
			b.want(t, 1, "a", "one")
			b.tokens.RotateAll(0)
			b.want(t, 2, "a", "one")
		},
		"a day has 30 rotations of 48 minutes, and one that comes early": func(t *testing.T, b *backend) {
			b.settings.Store(settings("one"))
			follow(t, b)
			pass(24 * time.Hour)
			if b.contents < 31 || b.contents > 32 || b.minter.Calls() != b.contents {
				t.Errorf("%d contents, %d requests in a day", b.contents, b.minter.Calls())
			}
		},
		"an outage": func(t *testing.T, b *backend) {
			b.settings.Store(settings("one"))
			follow(t, b)
			b.minter.Behave(rotationtest.Behaviour{Err: errors.New("the API server is away")})
			b.tokens.RotateAll(0)
			pass(5 * time.Minute)
			b.want(t, 1, "a", "one")
			if calls := b.minter.Calls(); calls > 15 {
				t.Errorf("%d requests in five minutes", calls)
			}
			b.minter.Behave(rotationtest.Behaviour{})
			pass(time.Minute)
			b.want(t, 2, "a", "one")
		},
		"a backend that is away": func(t *testing.T, b *backend) {
			b.settings.Store(settings("one"))
			b.refuses.Store(true)
			follow(t, b)
			pass(5 * time.Minute)
			if n := b.tried.Load(); n < 5 || n > 15 {
				t.Errorf("tried %d times in five minutes", n)
			}
			b.refuses.Store(false)
			pass(time.Minute)
			b.want(t, 1, "a", "one")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &backend{}
				test(t, b)
				b.following()
			})
		})
	}
}
