package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
)

// fetching gets what one volume needs, all at once.
type fetching struct {
	p  *Projector
	wg sync.WaitGroup

	mu    sync.Mutex // guards what follows, and the inputs
	life  tokenLife
	stale []error
}

// tokenLife is when the first of a volume's tokens is due, and when the first
// lapses; zero without tokens. One that can't be had has lapsed.
type tokenLife struct {
	due, deadline time.Time
	each          map[payload.TokenSpec]time.Time // when each is due
}

// gather calls get, and put with its result. A panic becomes the error.
func gather[T any](f *fetching, get func() (T, error), put func(payload.Fetched[T])) {
	f.wg.Go(func() {
		var got payload.Fetched[T]
		got.Err = f.p.contain(func() (err error) {
			got.Value, err = get()
			return err
		})
		f.mu.Lock()
		defer f.mu.Unlock()
		put(got)
	})
}

// fetch gets everything that the volume needs, side by side. life is that of its
// tokens. err says that a token which was handed out could not be replaced
// although it is due.
func (p *Projector) fetch(ctx context.Context, key Key, pod *corev1.Pod, v payload.Volume) (in *payload.Inputs, life tokenLife, err error) {
	needs := v.Needs()
	in = &payload.Inputs{
		Pod:        pod,
		MaxSize:    p.medium.maxSize(),
		Tokens:     make(map[payload.TokenSpec]payload.Fetched[rotation.Grant], len(needs.Tokens)),
		ConfigMaps: make(map[string]payload.Fetched[*corev1.ConfigMap], len(needs.ConfigMaps)),
		Secrets:    make(map[string]payload.Fetched[map[string][]byte], len(needs.Secrets)),
	}
	f := &fetching{p: p, life: tokenLife{each: make(map[payload.TokenSpec]time.Time, len(needs.Tokens))}}
	for _, spec := range needs.Tokens {
		f.token(ctx, pod, spec, in)
	}
	for _, name := range needs.ConfigMaps {
		gather(f, func() (*corev1.ConfigMap, error) { return p.cfg.Cluster.ConfigMap(ctx, key, pod.Namespace, name) },
			func(got payload.Fetched[*corev1.ConfigMap]) { in.ConfigMaps[name] = got })
	}
	for _, name := range needs.Secrets {
		gather(f, func() (map[string][]byte, error) { return p.cfg.Cluster.Secret(ctx, key, pod.Namespace, name) },
			func(got payload.Fetched[map[string][]byte]) { in.Secrets[name] = got })
	}
	if needs.TrustBundles {
		gather(f, func() ([]*certificatesv1.ClusterTrustBundle, error) { return p.cfg.Cluster.TrustBundles(ctx, key) },
			func(got payload.Fetched[[]*certificatesv1.ClusterTrustBundle]) { in.TrustBundles = &got })
	}
	if needs.Allocatable {
		gather(f, func() (corev1.ResourceList, error) { return p.cfg.Cluster.Allocatable(ctx) },
			func(got payload.Fetched[corev1.ResourceList]) { in.Allocatable = &got })
	}
	f.wg.Wait()
	// In a fixed order, so that the same problem reads the same each time.
	slices.SortFunc(f.stale, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return in, f.life, errors.Join(f.stale...)
}

// token gets a token that may be the old one, with the reason why it is.
func (f *fetching) token(ctx context.Context, pod *corev1.Pod, spec payload.TokenSpec, in *payload.Inputs) {
	var due time.Time
	gather(f, func() (grant rotation.Grant, err error) {
		grant, due, err = f.p.cfg.Tokens.Get(ctx, payload.TokenRequest(pod, spec))
		return grant, err
	}, func(got payload.Fetched[rotation.Grant]) {
		in.Tokens[spec] = got
		if got.Value.Token.IsZero() {
			f.life.deadline = earliest(f.life.deadline, time.Now())
			return
		}
		if got.Err != nil {
			f.stale = append(f.stale, fmt.Errorf("replacing a token that is due, the old one is valid until %s: %w",
				got.Value.Deadline().UTC().Format(time.RFC3339), got.Err))
		}
		f.life.due, f.life.each[spec] = earliest(f.life.due, due), due
		f.life.deadline = earliest(f.life.deadline, got.Value.Deadline())
	})
}
