// Package payload turns a projected volume of a Pod, and the API objects that
// its sources name, into the files that the volume holds: paths, bytes, modes
// and owners, by the kubelet's rules (pkg/volume/projected/projected.go).
//
// It is pure: it reads no file, makes no request and starts nothing. The
// caller asks a Volume what it needs, fetches that, and calls Build. All
// functions may be called concurrently; no argument is changed or kept.
package payload

import (
	"fmt"
	"maps"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/rotation"
)

// Volume is one projected volume that a Pod declares.
type Volume struct {
	Name   string
	Source *corev1.ProjectedVolumeSource
}

// Volumes are the projected volumes of a Pod that have a token source and that
// some container mounts, in the order of the Pod's spec. The kubelet, too,
// skips volumes that no container mounts
// (pkg/kubelet/volumemanager/populator).
func Volumes(pod *corev1.Pod) []Volume {
	mounted := mountedVolumes(&pod.Spec)
	var out []Volume
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected != nil && mounted[v.Name] && hasToken(v.Projected) {
			out = append(out, Volume{Name: v.Name, Source: v.Projected})
		}
	}
	return out
}

// Find returns the volume with this name among Volumes(pod).
func Find(pod *corev1.Pod, name string) (Volume, bool) {
	for _, v := range Volumes(pod) {
		if v.Name == name {
			return v, true
		}
	}
	return Volume{}, false
}

func hasToken(p *corev1.ProjectedVolumeSource) bool {
	for i := range p.Sources {
		if p.Sources[i].ServiceAccountToken != nil {
			return true
		}
	}
	return false
}

func mountedVolumes(spec *corev1.PodSpec) map[string]bool {
	mounted := map[string]bool{}
	eachContainer(spec, func(mounts []corev1.VolumeMount, _ *corev1.SecurityContext) {
		for i := range mounts {
			mounted[mounts[i].Name] = true
		}
	})
	return mounted
}

// eachContainer calls f with what decides about volumes, of all init, regular
// and ephemeral containers.
func eachContainer(spec *corev1.PodSpec, f func([]corev1.VolumeMount, *corev1.SecurityContext)) {
	for i := range spec.InitContainers {
		f(spec.InitContainers[i].VolumeMounts, spec.InitContainers[i].SecurityContext)
	}
	for i := range spec.Containers {
		f(spec.Containers[i].VolumeMounts, spec.Containers[i].SecurityContext)
	}
	for i := range spec.EphemeralContainers {
		f(spec.EphemeralContainers[i].VolumeMounts, spec.EphemeralContainers[i].SecurityContext)
	}
}

// Needs is what must be fetched before a volume can be built, each thing once.
type Needs struct {
	Tokens     []TokenSpec
	ConfigMaps []string // names in the Pod's namespace
	Secrets    []string // names in the Pod's namespace
	// TrustBundles: all of the cluster's; which of them is decided here.
	TrustBundles bool
	// Allocatable: what the Pod's node has to give.
	Allocatable bool
}

// Inputs is what was fetched, a result for each need. A source whose need has none
// fails.
type Inputs struct {
	Pod *corev1.Pod
	// MaxSize is how many bytes all files may have; 0 is no limit. A source that
	// has more fails before anything of it is copied.
	MaxSize    int
	Tokens     map[TokenSpec]Fetched[rotation.Grant]
	ConfigMaps map[string]Fetched[*corev1.ConfigMap]
	// Secrets are their data, by key.
	Secrets      map[string]Fetched[map[string][]byte]
	TrustBundles *Fetched[[]*certificatesv1.ClusterTrustBundle]
	Allocatable  *Fetched[corev1.ResourceList]
}

// Fetched is a value, or the reason why there is none; of a token both may be there, as
// rotation.Manager.Get returns them. An object that does not exist has the API's error
// as its reason (apierrors.IsNotFound), by which an optional source is told from one that failed.
type Fetched[T any] struct {
	Value T
	Err   error
}

// source is one entry of a projected volume. A kind of source is one file of
// this package.
type source interface {
	// kind is the field of the API that declares it.
	kind() string
	// need adds what must be fetched.
	need(*Needs)
	// build returns its files, without those of any other source.
	build(in *Inputs, d defaults) ([]atomicdir.File, error)
}

// sourceOf finds the kind of one entry.
func sourceOf(p *corev1.VolumeProjection) source {
	switch {
	case p.ServiceAccountToken != nil:
		return tokenSource{p.ServiceAccountToken}
	case p.ConfigMap != nil:
		return configMapSource{p.ConfigMap}
	case p.DownwardAPI != nil:
		return downwardSource{p.DownwardAPI}
	case p.Secret != nil:
		return secretSource{p.Secret}
	case p.ClusterTrustBundle != nil:
		return trustBundleSource{p.ClusterTrustBundle}
	case p.PodCertificate != nil:
		return podCertificateSource{}
	default:
		return noSource{}
	}
}

// Needs says what to fetch for v.
func (v Volume) Needs() Needs {
	var n Needs
	for i := range v.Source.Sources {
		sourceOf(&v.Source.Sources[i]).need(&n)
	}
	return n
}

// SourceError says which source of a volume could not be built, and why.
type SourceError struct {
	Index int    // in the volume's sources
	Kind  string // the API's field, such as "configMap"
	Err   error
}

func (e *SourceError) Error() string {
	return fmt.Sprintf("sources[%d].%s: %v", e.Index, e.Kind, e.Err)
}

// Unwrap returns the reason.
func (e *SourceError) Unwrap() error { return e.Err }

// sized is a source whose size can be told before it is built: of those that may
// be large.
type sized interface{ size(in *Inputs) int }

// checkRoom takes from the room what a source needs, or says that there is not so
// much.
func checkRoom(s source, in *Inputs, room *int) error {
	large, ok := s.(sized)
	if !ok || in.MaxSize == 0 {
		return nil
	}
	size := large.size(in)
	if size > *room {
		return fmt.Errorf("it has %d bytes, and the volume has room for %d more: select keys of it with items, or raise the limit (--volume-size-limit)",
			size, *room)
	}
	*room -= size
	return nil
}

// Build returns the files of all sources that could be built and an error for
// each that could not; in.Pod must be set. Sources are taken in their order
// and a later one replaces an equal path of an earlier one, as with the
// kubelet; the files are sorted by path. Paths are as the Pod gives them:
// whoever writes them must check them.
func (v Volume) Build(in *Inputs) ([]atomicdir.File, []*SourceError) {
	d := defaultsOf(in.Pod, v.Source)
	byPath := map[string]atomicdir.File{}
	var failed []*SourceError
	room := in.MaxSize
	for i := range v.Source.Sources {
		s := sourceOf(&v.Source.Sources[i])
		var files []atomicdir.File
		err := checkRoom(s, in, &room)
		if err == nil {
			files, err = s.build(in, d)
		}
		if err != nil {
			failed = append(failed, &SourceError{Index: i, Kind: s.kind(), Err: err})
			continue
		}
		for _, f := range files {
			byPath[f.Path] = f
		}
	}
	files := make([]atomicdir.File, 0, len(byPath))
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		files = append(files, byPath[path])
	}
	return files, failed
}
