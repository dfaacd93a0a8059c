package payload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// keyed is a ConfigMap or a Secret, as a source that projects its keys.
type keyed struct {
	what     string // such as ConfigMap "x"
	items    []corev1.KeyToPath
	optional *bool
}

// sizeOf is the size of the values that a source projects: all, or those of its
// items.
func sizeOf[T ~string | ~[]byte](items []corev1.KeyToPath, values map[string]T) (size int) {
	if len(items) == 0 {
		for _, v := range values {
			size += len(v)
		}
	}
	for _, item := range items {
		size += len(values[item.Key])
	}
	return size
}

// files are those of the whole object, or of the items that the source names.
// err is why there is no object. get finds a key, and all gives each.
func (k keyed) files(err error, d defaults, get func(key string) ([]byte, bool), all func(yield func(string, []byte) bool)) ([]atomicdir.File, error) {
	optional := k.optional != nil && *k.optional
	if optional && apierrors.IsNotFound(err) {
		return nil, nil // only absence is optional, no other failure is
	}
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%s does not exist; create it, or mark the source as optional: %w", k.what, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.what, err)
	}
	var files []atomicdir.File
	if len(k.items) == 0 {
		for key, data := range all {
			files = append(files, d.file(key, data, nil))
		}
		return files, nil
	}
	for _, item := range k.items {
		data, ok := get(item.Key)
		if !ok && optional {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%s has no key %q; add the key, or mark the source as optional", k.what, item.Key)
		}
		files = append(files, d.file(item.Path, data, item.Mode))
	}
	return files, nil
}
