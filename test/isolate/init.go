package isolate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// initProcess is process 1 of the machine: when it ends, the kernel ends all
// others. It reaps what loses its parent, such as containers' shims.
func initProcess(dir string) (code int, err error) {
	if err := furnish(); err != nil {
		return 0, err
	}
	// What a killed test leaves among temporary files goes with the rest. The directory
	// itself is locked, and package rundir locks the place for temporary files.
	temporary := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temporary, 0700); err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageEnv+"=main:"+dir, "TMPDIR="+temporary)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM { // a Ctrl-C reaches the other too
				_ = syscall.Kill(cmd.Process.Pid, syscall.SIGTERM)
			}
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for a process: %w", err)
		case pid != cmd.Process.Pid:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

// furnish makes the namespaces look like a machine that has just started.
func furnish() error {
	// As systemd has it; else no container's mount could reach the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("proc", "/proc", "proc", flags|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	for _, point := range fresh {
		if err := unix.Mount("tmpfs", point, "tmpfs", flags, "mode=0755"); err != nil {
			return fmt.Errorf("mounting a tmpfs on %s: %w", point, err)
		}
	}
	loopback, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(loopback)
	}
	if err != nil {
		return fmt.Errorf("setting up the loopback: %w", err)
	}
	return nil
}
