package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tunables are settings of the whole kernel that a kubelet changes, such as that a
// panic reboots the machine (pkg/kubelet/cm/container_manager_linux.go).
var tunables = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// keepTunables has the kubelet write to copies instead. They are mounts of this
// process's namespace; see package isolate.
func keepTunables(dir string) error {
	for _, name := range tunables {
		setting, copied := filepath.Join("/proc/sys", name), filepath.Join(dir, strings.ReplaceAll(name, "/", "."))
		// An earlier node of this process may have left its own, whose file is gone.
		if err := unix.Unmount(setting, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("taking an earlier copy of %s away: %w", setting, err)
		}
		value, err := os.ReadFile(setting)
		if err == nil {
			err = os.WriteFile(copied, value, 0600)
		}
		if err == nil {
			err = unix.Mount(copied, setting, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("keeping the kubelet from %s: %w", setting, err)
		}
	}
	return nil
}
