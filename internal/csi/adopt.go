package csi

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/token-projector/token-projector/internal/mount"
)

// Adopt claims the volumes that an earlier process has mounted, which the mounts
// themselves tell, and has requests answered from now on. What a volume holds, its
// Pod says.
func (d *Driver) Adopt(v Volumes) error {
	d.adopting.Lock() // what is being removed must not be claimed
	defer d.adopting.Unlock()
	points, err := mount.List()
	if err != nil {
		return fmt.Errorf("looking for CSI volumes of an earlier process: %w", err)
	}
	// Mounts are told by the path that is no link, and the kubelet tells its own.
	resolved, err := filepath.EvalSymlinks(d.cfg.KubeletDir)
	if err != nil {
		return fmt.Errorf("looking for the kubelet's directory (is --kubelet-dir right?): %w", err)
	}
	for _, point := range points {
		path := point
		if below, ok := strings.CutPrefix(point, resolved+"/"); ok {
			path = filepath.Join(d.cfg.KubeletDir, below)
		}
		if key, err := parseTarget(d.cfg.KubeletDir, path); err == nil {
			v.Claim(key, path)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.volumes = v
	return nil
}
