package wrap

import (
	"errors"
	"io/fs"
	"os/exec"
	"syscall"
)

// The exit codes that a shell has for what a program's own can't say.
const (
	CannotRun = 126
	NotThere  = 127
	bySignal  = 128 // and the signal's number
)

// exitCode is what a program has ended with.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return bySignal + int(status.Signal())
	}
	return status.ExitStatus()
}

// Find looks for a program as a shell does: in PATH, unless its name has a slash.
func Find(name string) (path string, code int, err error) {
	if path, err = exec.LookPath(name); err != nil {
		return "", codeOf(err), err
	}
	return path, 0, nil
}

// codeOf is the exit code for a program that can't be started. One whose
// interpreter is missing is not there either.
func codeOf(err error) int {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return NotThere
	}
	return CannotRun
}
