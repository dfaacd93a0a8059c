package payload

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// resourceField is the text of a container's limit or request, in units of the
// divisor and rounded up. A limit of cpu, memory or ephemeral storage that is
// not set is what the node has to give (pkg/api/v1/resource/helpers.go).
func resourceField(in *Inputs, ref *corev1.ResourceFieldSelector) (string, error) {
	container, ok := findContainer(&in.Pod.Spec, ref.ContainerName)
	if !ok {
		return "", fmt.Errorf("container %q is not among the Pod's containers and init containers", ref.ContainerName)
	}
	which, text, _ := strings.Cut(ref.Resource, ".")
	name := corev1.ResourceName(text)
	var from corev1.ResourceList
	switch which {
	case "limits":
		from = container.Resources.Limits
	case "requests":
		from = container.Resources.Requests
	}
	overcommitted := name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage
	if which != "limits" && which != "requests" || !overcommitted && !strings.HasPrefix(text, corev1.ResourceHugePagesPrefix) {
		return "", fmt.Errorf("resource %q can't be projected into a file", ref.Resource)
	}
	quantity := from[name]
	if which == "limits" && overcommitted && quantity.IsZero() {
		if in.Allocatable == nil {
			return "", errNotFetched
		}
		if in.Allocatable.Err != nil {
			return "", fmt.Errorf("%s of container %q is not set, and what the node has is not known: %w",
				ref.Resource, ref.ContainerName, in.Allocatable.Err)
		}
		quantity = in.Allocatable.Value[name]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	amount, unit := quantity.Value(), divisor.Value()
	if name == corev1.ResourceCPU {
		amount, unit = quantity.MilliValue(), divisor.MilliValue()
	}
	return strconv.FormatInt(int64(math.Ceil(float64(amount)/float64(unit))), 10), nil
}

// needsAllocatable says whether a limit that a source projects falls back to
// what the node has.
func needsAllocatable(ref *corev1.ResourceFieldSelector) bool {
	switch ref.Resource {
	case "limits.cpu", "limits.memory", "limits.ephemeral-storage":
		return true
	}
	return false
}

// NeedsResources says whether one of a Pod's projected volumes shows what its
// containers ask for, so that this must be known of them.
func NeedsResources(spec *corev1.PodSpec) bool {
	for i := range spec.Volumes {
		p := spec.Volumes[i].Projected
		if p == nil {
			continue
		}
		for _, s := range p.Sources {
			if s.DownwardAPI != nil && slices.ContainsFunc(s.DownwardAPI.Items,
				func(f corev1.DownwardAPIVolumeFile) bool { return f.ResourceFieldRef != nil }) {
				return true
			}
		}
	}
	return false
}

func findContainer(spec *corev1.PodSpec, name string) (*corev1.Container, bool) {
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i], true
			}
		}
	}
	return nil, false
}
