// Package inmemory is what a provider without a file system to share with its Pods
// makes of packages rotation and projector/payload: the content of a volume, handed
// over again each time it changes. It is the code of docs/embedding.md.
package inmemory

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
)

// Provider hands the content of volumes over. Its fields are set before its first use.
type Provider struct {
	Tokens *rotation.Manager
	// ConfigMap is from the provider's informers.
	ConfigMap func(namespace, name string) (*corev1.ConfigMap, error)
	// Send gives a Pod all files of a volume, in the place of those it has.
	Send   func(ctx context.Context, pod *corev1.Pod, volume string, files []atomicdir.File) error
	Logger *slog.Logger
}

// Follow keeps what a running Pod has of a volume current until ctx ends: cancel it
// when the Pod's last process has ended, and not when its deletion begins. When all
// Follows of a Pod have returned, have Tokens.ForgetPod forget it. changed tells that a
// ConfigMap is another: a channel of this call's own, with room for one.
// Where labels are projected, follow the new Pod object after a change of these.
func (p *Provider) Follow(ctx context.Context, pod *corev1.Pod, v payload.Volume, changed chan struct{}) {
	stop := p.Tokens.OnDue(func() { // tokens are due early
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	sent := map[string]atomicdir.File{}
	for retry := time.Second; ; {
		files, complete, due, err := p.files(ctx, pod, v, sent)
		if complete || len(sent) > 0 { // the first time all must be there, then whatever is
			if !reflect.DeepEqual(files, sent) {
				sending := p.Send(ctx, pod, v.Name, sorted(files))
				if sending == nil {
					sent = files
				}
				err = errors.Join(err, sending)
			}
		}
		next := time.Until(due)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			p.Logger.Warn("the volume is not current", "pod", pod.Name, "volume", v.Name, "error", err, "retry", retry)
			next, retry = retry, min(2*retry, time.Minute)
		default:
			retry = time.Second
		}
		select {
		case <-time.After(next):
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// files are those of a volume by their paths, and when the first of its tokens is due.
// Where a source fails, what was sent of it stays, and the set is not complete; err also
// says what can't be renewed.
func (p *Provider) files(ctx context.Context, pod *corev1.Pod, v payload.Volume, sent map[string]atomicdir.File) (files map[string]atomicdir.File, complete bool, due time.Time, err error) {
	in := &payload.Inputs{
		Pod:        pod,
		Tokens:     map[payload.TokenSpec]payload.Fetched[rotation.Grant]{},
		ConfigMaps: map[string]payload.Fetched[*corev1.ConfigMap]{},
	}
	due = time.Now().Add(time.Hour) // there may be no token
	needs := v.Needs()
	for _, spec := range needs.Tokens {
		grant, at, minting := p.Tokens.Get(ctx, payload.TokenRequest(pod, spec))
		err = errors.Join(err, minting) // also beside a token, which is due and valid
		in.Tokens[spec] = payload.Fetched[rotation.Grant]{Value: grant, Err: minting}
		if !at.IsZero() && at.Before(due) {
			due = at
		}
	}
	for _, name := range needs.ConfigMaps {
		cm, err := p.ConfigMap(pod.Namespace, name)
		in.ConfigMaps[name] = payload.Fetched[*corev1.ConfigMap]{Value: cm, Err: err}
	}
	// Secrets, TrustBundles and Allocatable in the same way; Build says what is missing.
	built, failed := v.Build(in)
	files = map[string]atomicdir.File{}
	if len(failed) > 0 {
		maps.Copy(files, sent)
	}
	for _, source := range failed {
		err = errors.Join(err, source)
	}
	for _, f := range built {
		f.ModTime = time.Time{} // of the token's receipt, for those who adopt files
		files[f.Path] = f
	}
	return files, len(failed) == 0, due, err
}

func sorted(files map[string]atomicdir.File) []atomicdir.File {
	return slices.SortedFunc(maps.Values(files), func(a, b atomicdir.File) int { return cmp.Compare(a.Path, b.Path) })
}

// NewTokens is the token manager of a provider that has a client of its own. The pace
// bounds token requests, so that config needs no limit.
func NewTokens(config *rest.Config, policy rotation.Policy) (*rotation.Manager, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.RateLimiter = -1, nil
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	pace, err := rotation.NewPace(50, 100) // requests a second, and at once
	if err != nil {
		return nil, err
	}
	return rotation.NewManager(kube.Minter{Core: client.CoreV1().RESTClient()}, policy, rotation.WithPace(pace))
}
