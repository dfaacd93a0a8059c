package payload

import (
	"io/fs"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// fallbackMode is the API's default of defaultMode, for a Pod that did not
// come through the API's defaulting.
const fallbackMode = 0644

// defaults are what a volume's files take unless they say otherwise.
type defaults struct {
	mode    fs.FileMode
	fsUser  *int64
	fsGroup *int64
}

func defaultsOf(pod *corev1.Pod, p *corev1.ProjectedVolumeSource) defaults {
	mode := fs.FileMode(fallbackMode)
	if p.DefaultMode != nil {
		mode = fs.FileMode(*p.DefaultMode)
	}
	return defaults{mode: mode, fsUser: fsUser(&pod.Spec), fsGroup: FSGroup(pod)}
}

// FSGroup is the group that a Pod's volumes belong to, or nil.
func FSGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// file makes a file of a source that has modes of its own; mode may be nil.
func (d defaults) file(path string, data []byte, mode *int32) atomicdir.File {
	m := d.mode
	if mode != nil {
		m = fs.FileMode(*mode)
	}
	return atomicdir.File{Path: path, Data: data, Mode: d.forGroup(m)}
}

// credential makes a file that only its user may read if there is one user or
// a group to give it to.
func (d defaults) credential(path string, data []byte) atomicdir.File {
	m := d.mode
	if d.fsUser != nil || d.fsGroup != nil {
		m = 0600
	}
	f := atomicdir.File{Path: path, Data: data, Mode: d.forGroup(m)}
	if d.fsUser != nil {
		f.Owner = &atomicdir.Owner{UID: int(*d.fsUser), GID: -1}
	}
	return f
}

// forGroup adds what the kubelet adds to each file of a read-only volume with
// an fsGroup (pkg/volume/volume_linux.go).
func (d defaults) forGroup(m fs.FileMode) fs.FileMode {
	if d.fsGroup != nil {
		m |= 0440
	}
	return m
}

// fsUser is the user that all containers run as, or nil if they differ or one
// does not say (pkg/volume/util, FsUserFrom). The image's own user is not
// known here and does not count.
func fsUser(spec *corev1.PodSpec) *int64 {
	var podUser *int64
	if spec.SecurityContext != nil {
		podUser = spec.SecurityContext.RunAsUser
	}
	var common *int64
	same := true
	eachContainer(spec, func(_ []corev1.VolumeMount, sc *corev1.SecurityContext) {
		user := podUser
		if sc != nil && sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
		switch {
		case user == nil:
			same = false
		case common == nil:
			common = user
		case *common != *user:
			same = false
		}
	})
	if !same {
		return nil
	}
	return common
}
