package payload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

type configMapSource struct {
	*corev1.ConfigMapProjection
}

func (configMapSource) kind() string { return "configMap" }

func (s configMapSource) need(n *Needs) { n.ConfigMaps = appendOnce(n.ConfigMaps, s.Name) }

func (s configMapSource) build(in *Inputs, d defaults) ([]atomicdir.File, error) {
	optional := s.Optional != nil && *s.Optional
	got, ok := in.ConfigMaps[s.Name]
	switch {
	case !ok:
		return nil, errNotFetched
	case optional && apierrors.IsNotFound(got.Err):
		return nil, nil // only absence is optional, no other failure is
	case got.Err != nil:
		return nil, fmt.Errorf("ConfigMap %q: %w", s.Name, got.Err)
	}
	cm := got.Value
	if len(s.Items) == 0 {
		return wholeConfigMap(cm, d), nil
	}
	var files []atomicdir.File
	for _, item := range s.Items {
		data, ok := configMapKey(cm, item.Key)
		if !ok && optional {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("ConfigMap %q has no key %q", s.Name, item.Key)
		}
		files = append(files, d.file(item.Path, data, item.Mode))
	}
	return files, nil
}

func wholeConfigMap(cm *corev1.ConfigMap, d defaults) []atomicdir.File {
	files := make([]atomicdir.File, 0, len(cm.Data)+len(cm.BinaryData))
	for key, value := range cm.Data {
		files = append(files, d.file(key, []byte(value), nil))
	}
	for key, value := range cm.BinaryData {
		files = append(files, d.file(key, value, nil))
	}
	return files
}

func configMapKey(cm *corev1.ConfigMap, key string) ([]byte, bool) {
	if text, ok := cm.Data[key]; ok {
		return []byte(text), true
	}
	data, ok := cm.BinaryData[key]
	return data, ok
}
