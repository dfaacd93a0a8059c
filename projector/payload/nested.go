package payload

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// MountPoints are the directories that must be in a volume because a container
// mounts something else below it: the volume is read-only there, so nobody else
// can make them (pkg/volume/util/nested_volumes.go). They are relative to the
// volume and sorted; what lies below one of them is left to what is mounted
// there.
func MountPoints(pod *corev1.Pod, volume string) []string {
	var out []string
	eachContainer(&pod.Spec, func(mounts []corev1.VolumeMount, _ *corev1.SecurityContext) {
		var all, own []string
		for i := range mounts {
			place := path.Clean(mounts[i].MountPath)
			all = append(all, place)
			if mounts[i].Name == volume {
				own = append(own, place)
			}
		}
		slices.Sort(all)
		for _, place := range own {
			var found []string
			for _, other := range all {
				inside, below := strings.CutPrefix(other, strings.TrimSuffix(place, "/")+"/")
				nested := slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(inside, f+"/") })
				if below && inside != "" && !nested {
					found = append(found, inside)
				}
			}
			out = append(out, found...)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}
