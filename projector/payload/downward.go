package payload

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

type downwardSource struct {
	*corev1.DownwardAPIProjection
}

func (downwardSource) kind() string { return "downwardAPI" }

func (s downwardSource) need(n *Needs) {
	for _, item := range s.Items {
		if item.FieldRef == nil && item.ResourceFieldRef != nil && needsAllocatable(item.ResourceFieldRef) {
			n.Allocatable = true
		}
	}
}

func (s downwardSource) build(in *Inputs, d defaults) ([]atomicdir.File, error) {
	var files []atomicdir.File
	for _, item := range s.Items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = podField(in.Pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = resourceField(in, item.ResourceFieldRef)
		default:
			err = errors.New("neither fieldRef nor resourceFieldRef is set")
		}
		if err != nil {
			return nil, fmt.Errorf("item %q: %w", item.Path, err)
		}
		// Cleaned, as by the kubelet (pkg/volume/downwardapi), so that of two
		// spellings the later wins. Of other sources it does not clean them.
		files = append(files, d.file(path.Clean(item.Path), []byte(text), item.Mode))
	}
	return files, nil
}

// podField is the text of a field that the API allows in files
// (pkg/fieldpath/fieldpath.go).
func podField(pod *corev1.Pod, field string) (string, error) {
	switch field {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	}
	if key, ok := subscript(field, "metadata.labels"); ok {
		return pod.Labels[key], nil
	}
	if key, ok := subscript(field, "metadata.annotations"); ok {
		return pod.Annotations[key], nil
	}
	return "", fmt.Errorf("field %q can't be projected into a file", field)
}

// subscript returns k of map['k'].
func subscript(field, of string) (string, bool) {
	rest, ok := strings.CutPrefix(field, of+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// formatMap is one line for each key, sorted: k="v", quoted as in Go, without
// a newline at the end.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return strings.Join(lines, "\n")
}
