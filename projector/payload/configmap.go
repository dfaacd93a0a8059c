package payload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

type configMapSource struct {
	*corev1.ConfigMapProjection
}

func (configMapSource) kind() string { return "configMap" }

func (s configMapSource) need(n *Needs) { n.ConfigMaps = appendOnce(n.ConfigMaps, s.Name) }

func (s configMapSource) size(in *Inputs) int {
	cm := in.ConfigMaps[s.Name].Value
	if cm == nil {
		return 0
	}
	return sizeOf(s.Items, cm.Data) + sizeOf(s.Items, cm.BinaryData)
}

func (s configMapSource) build(in *Inputs, d defaults) ([]atomicdir.File, error) {
	got, ok := in.ConfigMaps[s.Name]
	if !ok || got.Value == nil && got.Err == nil {
		return nil, errNotFetched
	}
	cm := got.Value
	if cm == nil {
		cm = &corev1.ConfigMap{}
	}
	k := keyed{what: fmt.Sprintf("ConfigMap %q", s.Name), items: s.Items, optional: s.Optional}
	return k.files(got.Err, d, func(key string) ([]byte, bool) {
		if text, ok := cm.Data[key]; ok {
			return []byte(text), true
		}
		data, ok := cm.BinaryData[key]
		return data, ok
	}, func(yield func(string, []byte) bool) {
		for key, text := range cm.Data {
			if !yield(key, []byte(text)) {
				return
			}
		}
		for key, data := range cm.BinaryData {
			if !yield(key, data) {
				return
			}
		}
	})
}
