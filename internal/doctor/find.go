package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/token-projector/token-projector/internal/inspect"
	"github.com/token-projector/token-projector/internal/names"
)

// volume is one that is looked at.
type volume struct {
	path      string
	pod, name string // empty if the path does not say them
	ours      bool   // projectord keeps it, and not the kubelet
	found     *inspect.Volume
}

// layout is where a volume lies below a root directory: one of the kubelet's layout, or
// one of a CSI driver (pkg/volume/csi/csi_util.go).
var layout = regexp.MustCompile(`/pods/([^/]+)/volumes/(?:kubernetes\.io~projected/([^/]+)|kubernetes\.io~csi/([^/]+)/mount)$`)

// find says which volumes to look at. A Pod that has none is a result.
func (d *Doctor) find() []*volume {
	if d.Target == "" {
		return nil
	}
	if info, err := os.Stat(d.Target); err == nil && info.IsDir() || strings.ContainsRune(d.Target, '/') {
		return []*volume{d.at(d.Target)}
	}
	var found []*volume
	for _, root := range []string{d.RootDir, d.KubeletDir} {
		base := filepath.Join(root, "pods", d.Target, "volumes")
		for _, plugin := range []string{"kubernetes.io~projected", "kubernetes.io~csi"} {
			entries, _ := os.ReadDir(filepath.Join(base, plugin)) // what is not there has none
			for _, e := range entries {
				path := filepath.Join(base, plugin, e.Name())
				if plugin == "kubernetes.io~csi" {
					if path = filepath.Join(path, "mount"); driverOf(path) != names.CSIDriver {
						continue
					}
				}
				found = append(found, d.at(path))
			}
		}
	}
	if len(found) == 0 {
		d.add(Result{Status: Fail, Check: "volume",
			Text: fmt.Sprintf("there is no volume with tokens of Pod %s below %s or %s", d.Target, d.RootDir, d.KubeletDir),
			Advice: "see that the Pod is on this node, and that this is its UID: kubectl get pods -A -o " +
				"custom-columns=NODE:.spec.nodeName,UID:.metadata.uid,NS:.metadata.namespace,NAME:.metadata.name"})
		d.checkUnpublished()
	}
	return found
}

// at is the volume in a directory. Mounts are known by real paths, so links are
// followed.
func (d *Doctor) at(path string) *volume {
	for _, real := range []func(string) (string, error){filepath.Abs, filepath.EvalSymlinks} {
		if p, err := real(path); err == nil {
			path = p
		}
	}
	v := &volume{path: path}
	if m := layout.FindStringSubmatch(path); m != nil {
		v.pod, v.name = m[1], m[2]+m[3]
		root := d.RootDir
		if p, err := filepath.EvalSymlinks(root); err == nil {
			root = p
		}
		v.ours = strings.HasPrefix(path, filepath.Clean(root)+"/") || driverOf(path) == names.CSIDriver
	}
	return v
}

// driverOf is the CSI driver of a volume, as the kubelet notes it beside the mount;
// empty for what is none.
func driverOf(path string) string {
	content, err := os.ReadFile(filepath.Join(filepath.Dir(path), "vol_data.json"))
	if err != nil || filepath.Base(path) != "mount" {
		return ""
	}
	var data struct {
		DriverName string `json:"driverName"`
	}
	_ = json.Unmarshal(content, &data) // what is not there stays empty
	return data.DriverName
}
