// Package isolate keeps what a test mounts, starts and configures away from the
// machine.
package isolate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// marker says to the second run of the program that it is the second.
const marker = "TOKEN_PROJECTOR_ISOLATED"

// Run runs main in a mount namespace of its own, so that no mount is left
// behind, however the program ends, and returns its exit code. It does so by
// running this program again. Without root, who can't mount, it just calls
// main.
func Run(main func() int) int {
	if os.Getenv(marker) != "" || os.Geteuid() != 0 {
		return main()
	}
	code, err := again(marker+"=1", syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS})
	switch {
	case err == nil:
		return code
	case errors.Is(err, syscall.EPERM): // root without the right to make namespaces
		return main()
	}
	fmt.Fprintln(os.Stderr, "running in a mount namespace:", err)
	return 1
}

// again runs this program again, which ends with this one, and returns its exit
// code.
func again(env string, attr syscall.SysProcAttr) (int, error) {
	runtime.LockOSThread() // the parent-death signal is the thread's
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = &attr
	// A Ctrl-C reaches both; what is sent to this process alone is passed on.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// UnmountBelow unmounts everything below a directory, the deepest first.
func UnmountBelow(dir string) error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(info), "\n")
	var errs []error
	for i := len(lines) - 1; i >= 0; i-- {
		fields := strings.Fields(lines[i])
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			errs = append(errs, unix.Unmount(fields[4], unix.MNT_DETACH))
		}
	}
	return errors.Join(errs...)
}
