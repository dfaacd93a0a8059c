package payload

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

type secretSource struct {
	*corev1.SecretProjection
}

func (secretSource) kind() string { return "secret" }

func (s secretSource) need(n *Needs) { n.Secrets = appendOnce(n.Secrets, s.Name) }

func (s secretSource) size(in *Inputs) int { return sizeOf(s.Items, in.Secrets[s.Name].Value) }

func (s secretSource) build(in *Inputs, d defaults) ([]atomicdir.File, error) {
	got, ok := in.Secrets[s.Name]
	if !ok {
		return nil, errNotFetched
	}
	k := keyed{what: fmt.Sprintf("Secret %q", s.Name), items: s.Items, optional: s.Optional}
	return k.files(got.Err, d, func(key string) ([]byte, bool) {
		data, ok := got.Value[key]
		return data, ok
	}, maps.All(got.Value))
}
