package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// enterCommand is how this program calls itself in a new mount namespace.
const enterCommand = "enter-rootfs"

// mountPath is where programs with a Kubernetes client look for the API token.
const mountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// lockFD is where the process has its pid file, locked: the kernel gives the lock back
// when the process has ended, however that comes.
const lockFD = 3

// workload is the process. It is not killed with this program, and may be a child of
// an earlier run of it.
type workload struct {
	pid   int
	pidfd int // of the process, whatever its number is given to later
}

// start starts the process in a mount namespace of its own.
func start(dir, volume string, command []string) (*workload, error) {
	pid, err := os.OpenFile(pidFile(dir), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = pid.Close() }()
	if err := unix.Flock(int(pid.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("locking %s: %w", pid.Name(), err)
	}
	output, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	cmd := exec.Command("/proc/self/exe", append([]string{enterCommand, filepath.Join(dir, "rootfs"), volume}, command...)...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{pid} // it is lockFD there
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }() // so that no zombie is left
	log.Printf("started process %d", cmd.Process.Pid)
	return open(cmd.Process.Pid)
}

// enter makes the root directory that of this process, with the volume in it, and
// becomes the command. The mount namespace is new, and nothing in it is shared.
func enter(rootfs, volume string, command []string) error {
	if _, err := unix.Write(lockFD, []byte(strconv.Itoa(os.Getpid()))); err != nil {
		return fmt.Errorf("writing the pid file: %w", err)
	}
	target := filepath.Join(rootfs, mountPath)
	if err := os.MkdirAll(target, 0755); err != nil {
		return err
	}
	const readOnly = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, step := range []func() error{
		func() error { return unix.Mount(rootfs, rootfs, "", unix.MS_BIND, "") },
		// The directory as a whole: a file, or a directory below it, would stay what it is now.
		func() error { return unix.Mount(volume, target, "", unix.MS_BIND, "") },
		func() error { return unix.Mount("", target, "", readOnly, "") },
		// The host's mounts go, and with them those of all other volumes.
		func() error { return unix.Chdir(rootfs) },
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("making the root directory: %w", err)
		}
	}
	return unix.Exec(command[0], command, os.Environ())
}

// adopt finds the process of an earlier run; nil if there is none that runs.
func adopt(dir string) (*workload, error) {
	if locked, err := isLocked(dir); err != nil || !locked {
		return nil, err
	}
	text, err := os.ReadFile(pidFile(dir))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return nil, fmt.Errorf("the process has not written its number yet: %w", err)
	}
	w, err := open(pid)
	if err != nil {
		return nil, err
	}
	// Still locked? Then the number is still the process's, and no later one's.
	if locked, err := isLocked(dir); err != nil || !locked {
		return nil, errors.Join(err, unix.Close(w.pidfd))
	}
	log.Printf("took over process %d", pid)
	return w, nil
}

// isLocked says whether the process holds its pid file.
func isLocked(dir string) (bool, error) {
	f, err := os.OpenFile(pidFile(dir), os.O_CREATE|os.O_RDONLY, 0600)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

func pidFile(dir string) string { return filepath.Join(dir, "pid") }

func open(pid int) (*workload, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	return &workload{pid: pid, pidfd: fd}, err
}

// running says whether the process has not ended.
func (w *workload) running() bool { return !w.endsWithin(0) }

// wait waits for the end of the process or of ctx.
func (w *workload) wait(ctx context.Context) {
	for ctx.Err() == nil && !w.endsWithin(time.Second) {
	}
}

func (w *workload) endsWithin(d time.Duration) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.pidfd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	return err == nil && n > 0
}

// end asks the process to end, and has it ended.
func (w *workload) end() error {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(w.pidfd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("ending process %d: %w", w.pid, err)
		}
		if w.endsWithin(10 * time.Second) {
			log.Printf("process %d has ended", w.pid)
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", w.pid)
}
