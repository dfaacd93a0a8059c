package csi

import (
	"fmt"

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
	for _, path := range points {
		if key, err := parseTarget(d.cfg.KubeletDir, path); err == nil {
			v.Claim(key, path)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.volumes = v
	return nil
}
