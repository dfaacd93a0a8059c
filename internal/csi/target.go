package csi

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector"
)

// The kubelet's layout of CSI volumes below its root directory
// (pkg/volume/csi/csi_util.go).
const (
	podsDir    = "pods"
	volumesDir = "volumes"
	pluginDir  = "kubernetes.io~csi"
	mountDir   = "mount"
)

// names are those of Pods' UIDs and volumes: nothing that means something in a
// path.
var names = regexp.MustCompile(`^[a-z0-9A-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`)

// parseTarget reads the path that a kubelet wants a volume at. Whatever else is in
// a request, this says whose volume it is.
func parseTarget(kubeletDir, path string) (projector.Key, error) {
	bad := func(why string) (projector.Key, error) {
		return projector.Key{}, fmt.Errorf("target path %q: %s: want %s", path, why,
			filepath.Join(kubeletDir, podsDir, "<pod UID>", volumesDir, pluginDir, "<volume>", mountDir))
	}
	if path != filepath.Clean(path) {
		return bad("it is not clean")
	}
	inside, below := strings.CutPrefix(path, filepath.Join(kubeletDir, podsDir)+"/")
	if !below {
		return bad("it is not below the kubelet's directory of Pods (is --kubelet-dir right?)")
	}
	parts := strings.Split(inside, "/")
	if len(parts) != 5 || parts[1] != volumesDir || parts[2] != pluginDir || parts[4] != mountDir {
		return bad("it is no CSI volume's")
	}
	if !names.MatchString(parts[0]) || !names.MatchString(parts[3]) {
		return bad("it has a name that is none")
	}
	return projector.Key{PodUID: types.UID(parts[0]), Volume: parts[3]}, nil
}
