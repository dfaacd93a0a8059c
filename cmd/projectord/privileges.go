package main

import (
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/projector"
)

// chooseMedium settles --volume-medium=auto.
func chooseMedium(o *options, logger *slog.Logger) (projector.Medium, error) {
	if o.medium != "" {
		return o.medium, nil
	}
	if err := projector.TmpfsAvailable(o.rootDir); err != nil {
		if o.csiSocket != "" {
			return "", fmt.Errorf("the CSI driver must be able to mount: run it privileged: %w", err)
		}
		logger.Warn("volumes are plain directories, because a tmpfs can't be mounted; "+
			"keep the root directory off the disk, or allow mounting", "root_dir", o.rootDir, "reason", err)
		return projector.MediumDirectory, nil
	}
	return projector.MediumTmpfs, nil
}

// keepOwners says whether files must stay this process's own: without
// CAP_CHOWN it can't give them away, root or not.
func keepOwners(logger *slog.Logger) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err == nil && data[0].Effective&(1<<unix.CAP_CHOWN) != 0 {
		return false
	}
	logger.Warn("without the capability CHOWN, files belong to this user, whatever user or fsGroup a Pod asks for", "uid", os.Geteuid())
	return true
}
