// Package wrap runs a program and tells it, or a hook, each time that its token
// is replaced. It hands nobody a token: who is told reads the file.
package wrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/token-projector/token-projector/tokenfile"
)

// ErrNotInTime is that there was no token within Program.Wait. The program was not
// started.
var ErrNotInTime = errors.New("no token in time")

// OnRotate is what happens when a token is replaced: one of both.
type OnRotate struct {
	Signal syscall.Signal // is sent to the program
	Hook   string         // is the path of a program that is run without arguments
}

// Program is what is run. Fill it and call Run, once.
type Program struct {
	// Path is the executable; Argv what it is called with, its own name first.
	Path string
	Argv []string
	// TokenPath is Source's file, which a hook finds in TOKEN_PATH.
	TokenPath string
	Source    *tokenfile.Source
	OnRotate  OnRotate
	// Wait is how long to wait for a token before the program is started. 0: it is
	// started at once.
	Wait time.Duration
	// Limits are a hook's. Hooks has those that are meant for use.
	Limits Limits
	// Report is told what went wrong with a hook, which ends nothing. It must not
	// block.
	Report func(error)
}

// Run runs the program with this process's standard streams, environment and
// process group, and returns the exit code that a shell would have for it. An
// error is that it was not started; the code goes with it where there is one:
// CannotRun, NotThere.
//
// While it runs it takes this process's signals and children for itself, so
// nothing else in the process may start any.
func (p *Program) Run() (int, error) {
	r := &runner{Program: p, signals: make(chan os.Signal, 64), died: make(chan os.Signal, 1), dropped: make(chan os.Signal, 1)}
	r.listen()
	defer r.deafen()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = p.Source.Run(ctx) }) // it fails only if it runs already

	changed, known, stopped, err := r.begin(ctx)
	switch {
	case err != nil:
		return 0, err
	case stopped != 0:
		return bySignal + int(stopped), nil
	}
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}}
	if r.pid, err = syscall.ForkExec(p.Path, p.Argv, attr); err != nil {
		return codeOf(err), fmt.Errorf("starting %s: %w", p.Path, err)
	}
	h := &hook{path: p.OnRotate.Hook, token: p.TokenPath, limits: p.Limits, report: p.Report}
	defer h.end()
	for {
		select {
		case <-changed:
			changed = p.Source.Changed()
			if known { // else it is the first, and nothing was replaced
				r.tell(h)
			}
			known = true
		case s := <-r.signals:
			r.relay(s)
		case <-r.died:
			if status, ended := r.reap(h); ended {
				return exitCode(status), nil
			}
		case <-h.timer:
			h.fire()
		}
	}
}

// runner is a Program that runs. One goroutine owns it: the one that called Run.
type runner struct {
	*Program
	pid     int
	signals chan os.Signal // for the program
	died    chan os.Signal // SIGCHLD
	dropped chan os.Signal // for nobody
}

// listen takes the process's signals. SIGPIPE only so that writing to a standard
// error that nobody reads ends neither this process nor, with PID 1, all others.
func (r *runner) listen() {
	signal.Notify(r.signals, relayed()...)
	signal.Notify(r.died, syscall.SIGCHLD)
	signal.Notify(r.dropped, syscall.SIGPIPE)
}

func (r *runner) deafen() {
	signal.Stop(r.signals)
	signal.Stop(r.died)
	signal.Stop(r.dropped)
}

// begin waits for a token, if that is wanted. It returns what tells of another
// token than now, whether there is one now, and the signal that ended the wait.
func (r *runner) begin(ctx context.Context) (changed <-chan struct{}, known bool, stopped syscall.Signal, err error) {
	timeout := time.NewTimer(r.Wait)
	defer timeout.Stop()
	for {
		changed := r.Source.Changed()
		token, err := r.Source.Token(ctx)
		select {
		case <-changed: // maybe it was the look for it that found it
			continue
		default:
		}
		if err == nil || r.Wait == 0 {
			return changed, !token.IsZero(), 0, nil
		}
		for waiting := true; waiting; {
			select {
			case <-changed:
				waiting = false
			case <-timeout.C:
				return nil, false, 0, fmt.Errorf("%w, within %s: %w", ErrNotInTime, r.Wait, err)
			case s := <-r.signals:
				if s := s.(syscall.Signal); stops(s) {
					return nil, false, s, nil
				}
			}
		}
	}
}

// tell tells whom it concerns that the token was replaced.
func (r *runner) tell(h *hook) {
	if r.OnRotate.Signal == 0 {
		h.rotated()
		return
	}
	_ = syscall.Kill(r.pid, r.OnRotate.Signal) // it may have ended
}

// relay hands a signal on to the program. It is not reaped before this goroutine
// does so, so that its PID is no other's.
func (r *runner) relay(s os.Signal) {
	if s := s.(syscall.Signal); !fromTerminal(s) {
		_ = syscall.Kill(r.pid, s)
	}
}

// reap waits for all children that have ended. Those that are neither the program
// nor the hook were left by others, to PID 1.
func (r *runner) reap(h *hook) (program syscall.WaitStatus, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || pid <= 0:
			return program, ended
		case pid == r.pid:
			program, ended = status, true
		case pid == h.pid:
			h.ended(status)
		}
	}
}
