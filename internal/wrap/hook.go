package wrap

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Limits are those of a hook.
type Limits struct {
	// Timeout is how long it may take before it is killed.
	Timeout time.Duration
	// Pause is how long to wait after the first time that it fails, and twice as
	// long after each further time, up to MaxPause.
	Pause, MaxPause time.Duration
}

// Hooks are the limits of hooks that nobody has said anything else of.
var Hooks = Limits{Timeout: time.Minute, Pause: time.Second, MaxPause: time.Minute}

// hook runs a program for each rotation, one at a time, until it succeeds.
// Rotations that come while it runs are one: it reads the newest token.
type hook struct {
	path, token string
	limits      Limits
	report      func(error)

	pid      int  // 0: it does not run
	due      bool // it runs for a token that is not the newest
	killed   bool // for it took too long
	failures int  // one after another, for the newest token
	// timer tells that it takes too long, while it runs, or else that it is to be
	// run again.
	timer <-chan time.Time
}

// rotated has it run.
func (h *hook) rotated() {
	if h.pid != 0 {
		h.due = true
		return
	}
	h.failures = 0
	h.start()
}

// start runs it in a process group of its own, so that what it starts can be
// killed with it and the terminal's keys don't reach it.
func (h *hook) start() {
	h.due, h.killed = false, false
	null, err := os.Open(os.DevNull)
	if err != nil {
		h.failed(err)
		return
	}
	defer func() { _ = null.Close() }()
	h.pid, err = syscall.ForkExec(h.path, []string{h.path}, &syscall.ProcAttr{
		Env:   h.environment(),
		Files: []uintptr{null.Fd(), 2, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		h.pid = 0
		h.failed(err)
		return
	}
	h.timer = time.After(h.limits.Timeout)
}

// environment is this process's, with where the token is. Of a variable that is
// there twice programs take either.
func (h *hook) environment() []string {
	const name = "TOKEN_PATH="
	inherited := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, name) })
	return append(inherited, name+h.token)
}

// fire does what timer tells of.
func (h *hook) fire() {
	h.timer = nil
	if h.pid == 0 {
		h.start()
		return
	}
	h.killed = true
	h.kill()
}

func (h *hook) kill() { _ = syscall.Kill(-h.pid, syscall.SIGKILL) }

// ended takes the status of its process, which was reaped just now.
func (h *hook) ended(status syscall.WaitStatus) {
	h.pid, h.timer = 0, nil
	err := error(nil)
	switch {
	case h.killed:
		err = fmt.Errorf("it took longer than %s and was killed", h.limits.Timeout)
	case status.Signaled():
		err = fmt.Errorf("it ended by signal %d, %s", status.Signal(), status.Signal())
	case status.ExitStatus() != 0:
		err = fmt.Errorf("it exited with %d", status.ExitStatus())
	}
	switch {
	case h.due:
		if err != nil {
			h.report(fmt.Errorf("hook %s: %w; again for the next token now", h.path, err))
		}
		h.rotated()
	case err != nil:
		h.failed(err)
	}
}

// failed has it run again later.
func (h *hook) failed(err error) {
	pause := h.limits.MaxPause
	if h.failures < 16 { // or shifting would overflow
		pause = min(pause, h.limits.Pause<<h.failures)
	}
	h.failures++
	h.timer = time.After(pause)
	h.report(fmt.Errorf("hook %s: %w; again in %s", h.path, err, pause))
}

// end kills it if it runs, because nobody would wait for it any more.
func (h *hook) end() {
	if h.pid == 0 {
		return
	}
	h.kill()
	for errors.Is(wait(h.pid), syscall.EINTR) {
	}
}

func wait(pid int) error {
	_, err := syscall.Wait4(pid, nil, 0, nil)
	return err
}
