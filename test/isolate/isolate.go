// Package isolate keeps what a test mounts away from the machine.
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
	runtime.LockOSThread() // the parent-death signal is the thread's
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	// A Ctrl-C reaches both; what is sent to this process alone is passed on.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	err := cmd.Start()
	if err == nil {
		go func() {
			for s := range signals {
				if s == syscall.SIGTERM {
					_ = cmd.Process.Signal(s)
				}
			}
		}()
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	case errors.Is(err, syscall.EPERM): // root without the right to make namespaces
		return main()
	}
	fmt.Fprintln(os.Stderr, "running in a mount namespace:", err)
	return 1
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
