package kube

import (
	"encoding/json"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/version"
)

// impersonationSince is the minor version of Kubernetes in which constrained
// impersonation came to be on.
const impersonationSince = 36

// parseVersion reads the answer of /version. The version that a server emulates
// is what counts. What can't be read is 0.
func parseVersion(raw []byte) (major, minor int) {
	var info version.Info
	if json.Unmarshal(raw, &info) != nil {
		return 0, 0
	}
	majorText, minorText := info.Major, info.Minor
	if info.EmulationMajor != "" {
		majorText, minorText = info.EmulationMajor, info.EmulationMinor
	}
	major, errMajor := strconv.Atoi(majorText)
	minor, errMinor := strconv.Atoi(strings.TrimRight(minorText, "+")) // some vendors write one
	if errMajor != nil || errMinor != nil {
		return 0, 0
	}
	return major, minor
}
