package runtimeapi

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// soPeerPidfd is SO_PEERPIDFD, which x/sys does not have yet (Linux 6.5,
// include/uapi/asm-generic/socket.h).
const soPeerPidfd = 77

// sameNamespaces says why the process at the other end of a socket is not one of
// this machine's own, seen from here. It goes by a descriptor of the process, because
// its number may be another process's by the time that it is looked at.
func sameNamespaces(socket int) error {
	pidfd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, soPeerPidfd)
	if err != nil {
		return fmt.Errorf("which namespaces the caller is in can't be found out (this needs Linux 6.5): %w", err)
	}
	defer func() { _ = unix.Close(pidfd) }()
	pid, err := pidOf(pidfd)
	if err != nil {
		return err
	}
	for _, ns := range []string{"user", "pid", "mnt"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err != nil {
			return fmt.Errorf("looking at the caller's namespaces: %w", err)
		}
		if ours, err := os.Readlink("/proc/self/ns/" + ns); err != nil || ours != theirs {
			return fmt.Errorf("the caller is in another %s namespace", ns)
		}
	}
	// Still the same process? Then what was read is its.
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		return fmt.Errorf("the caller has ended: %w", err)
	}
	return nil
}

// pidOf is the number of a process, as our PID namespace sees it.
func pidOf(pidfd int) (pid int, err error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, fmt.Errorf("looking for the caller's process: %w", err)
	}
	for line := range strings.Lines(string(info)) {
		if _, err := fmt.Sscanf(line, "Pid:\t%d", &pid); err == nil {
			break
		}
	}
	if pid <= 0 {
		return 0, errors.New("the caller is not in this PID namespace")
	}
	return pid, nil
}
