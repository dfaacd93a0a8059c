package wrap

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept are the signals that are not handed on. What can't be caught is none.
var kept = []syscall.Signal{
	syscall.SIGKILL, syscall.SIGSTOP, // can't be caught
	syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF, syscall.SIGPIPE, // are about this process; Go's runtime uses two
	syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, // stop this process, as they should: a shell that runs it as a job sees that
	32, 33, 34, // are the C libraries' own
}

// relayed are the signals that are handed on: all others. Not SIGHUP and SIGINT
// where they are ignored, as below nohup or in the background of a shell: catching
// them would undo that for the program. Of any other signal, as SIGQUIT, nobody can
// tell: Go's runtime has caught it before, without keeping what it was.
func relayed() []os.Signal {
	var all []os.Signal
	for s := syscall.Signal(1); s <= 64; s++ {
		if !slices.Contains(kept, s) && !signal.Ignored(s) {
			all = append(all, s)
		}
	}
	return all
}

// stops says whether a signal ends what waits for a token.
func stops(s syscall.Signal) bool {
	return s == syscall.SIGHUP || s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGTERM
}

// fromTerminal says whether the program has a signal already, from the terminal,
// whose keys signal the process group in its foreground. Whether it was a key
// nobody can tell; it is taken for one. Except as PID 1: a container may be
// ended with these signals, and twice is better than never there.
func fromTerminal(s syscall.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT || os.Getpid() == 1 {
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false // there is none
	}
	defer func() { _ = unix.Close(tty) }()
	foreground, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}

// ParseOnRotate reads signal:NAME, with or without SIG, or run:PROGRAM.
func ParseOnRotate(text string) (OnRotate, error) {
	kind, value, _ := strings.Cut(text, ":")
	switch {
	case kind == "signal":
		if s := unix.SignalNum("SIG" + strings.TrimPrefix(value, "SIG")); s != 0 {
			return OnRotate{Signal: s}, nil
		}
		return OnRotate{}, fmt.Errorf("there is no signal %q: want one such as HUP", value)
	case kind == "run" && value != "":
		return OnRotate{Hook: value}, nil
	}
	return OnRotate{}, fmt.Errorf("invalid %q: want signal:NAME or run:PROGRAM", text)
}
