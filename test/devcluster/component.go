package devcluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/token-projector/token-projector/test/proc"
)

// Component is one program of the control plane. Its methods may be called
// concurrently.
type Component struct {
	name   string
	binary string
	args   []string
	log    string
	ready  func(context.Context) error // nil: it is ready once it runs

	mu   sync.Mutex
	proc *proc.Process
}

// readyTimeout is how long a component may take to serve.
const readyTimeout = 90 * time.Second

// Start starts the program and waits until it serves. It is an error if it
// runs already.
func (c *Component) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil {
		return fmt.Errorf("%s runs already", c.name)
	}
	running, err := proc.Start(c.name, c.binary, c.args, c.log)
	if err != nil {
		return err
	}
	c.proc = running
	if err := c.waitReady(ctx, running); err != nil {
		running.Kill()
		c.proc = nil
		return err
	}
	return nil
}

func (c *Component) waitReady(ctx context.Context, running *proc.Process) error {
	if c.ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		err := c.ready(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-running.Done():
			return running.Ended()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", c.name, err, proc.Tail(c.log, 15))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the program in an orderly way. It does nothing if it does not run.
func (c *Component) Stop() { c.end((*proc.Process).Stop) }

// Kill ends the program at once, as a crash would.
func (c *Component) Kill() { c.end((*proc.Process).Kill) }

func (c *Component) end(how func(*proc.Process)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil {
		how(c.proc)
		c.proc = nil
	}
}

// Restart stops the program and starts it again.
func (c *Component) Restart(ctx context.Context) error {
	c.Stop()
	return c.Start(ctx)
}

// Freeze stops the program where it is: connections stay open and nothing
// answers. Thaw lets it go on.
func (c *Component) Freeze() error { return c.signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (c *Component) Thaw() error { return c.signal(syscall.SIGCONT) }

func (c *Component) signal(s syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return errors.New(c.name + " does not run")
	}
	return c.proc.Signal(s)
}

// Log is the path of the file with the program's output.
func (c *Component) Log() string { return filepath.Clean(c.log) }
