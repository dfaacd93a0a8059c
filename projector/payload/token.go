package payload

import (
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/rotation"
)

// defaultExpirationSeconds is the API's default, for a Pod that did not come
// through the API's defaulting.
const defaultExpirationSeconds = 3600

// TokenSpec is what a token source asks for. It is comparable; sources of one
// volume with equal specs share one token.
type TokenSpec struct {
	Audience          string // empty: the API server's own
	ExpirationSeconds int64
}

// TokenRequest is what to ask rotation.Manager for, as the kubelet does
// (pkg/volume/projected).
func TokenRequest(pod *corev1.Pod, spec TokenSpec) rotation.Request {
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	return rotation.Request{
		Namespace:      pod.Namespace,
		ServiceAccount: account,
		Pod:            rotation.ObjectRef{Name: pod.Name, UID: string(pod.UID)},
		Audience:       spec.Audience,
		Lifetime:       time.Duration(spec.ExpirationSeconds) * time.Second,
	}
}

type tokenSource struct {
	*corev1.ServiceAccountTokenProjection
}

// KindToken is the kind of a token source in a SourceError.
const KindToken = "serviceAccountToken"

func (tokenSource) kind() string { return KindToken }

func (s tokenSource) spec() TokenSpec {
	spec := TokenSpec{Audience: s.Audience, ExpirationSeconds: defaultExpirationSeconds}
	if s.ExpirationSeconds != nil {
		spec.ExpirationSeconds = *s.ExpirationSeconds
	}
	return spec
}

func (s tokenSource) need(n *Needs) { n.Tokens = appendOnce(n.Tokens, s.spec()) }

func (s tokenSource) build(in *Inputs, d defaults) ([]atomicdir.File, error) {
	token, ok := in.Tokens[s.spec()]
	switch {
	case !ok:
		return nil, errNotFetched
	case !token.Value.Token.IsZero(): // an error beside it says that it can't be replaced yet
	case token.Err != nil:
		return nil, token.Err
	default:
		return nil, errNotFetched // an empty file would be worse than none
	}
	f := d.credential(s.Path, []byte(token.Value.Token.Reveal())) // without a newline: some SDKs do not trim
	f.ModTime = token.Value.Received                              // from which the next process reads its age
	return []atomicdir.File{f}, nil
}

// TokenPaths are the paths of the volume's token sources, with what each asks
// for. A path that another source takes over is among them too.
func (v Volume) TokenPaths() map[string]TokenSpec {
	paths := map[string]TokenSpec{}
	for i := range v.Source.Sources {
		if t := v.Source.Sources[i].ServiceAccountToken; t != nil {
			paths[t.Path] = tokenSource{t}.spec()
		}
	}
	return paths
}

// errNotFetched is a mistake of the caller: it did not fetch what Needs said.
var errNotFetched = errors.New("what it needs was not fetched")

func appendOnce[T comparable](list []T, v T) []T {
	for _, have := range list {
		if have == v {
			return list
		}
	}
	return append(list, v)
}
