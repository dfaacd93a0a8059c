package proc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Component is a program that can be started again after it has ended, such as
// one of a control plane. Its methods may be called concurrently.
type Component struct {
	Name string
	Path string // of the program
	Args []string
	Log  string // path of the file that its output is appended to
	// Ready says whether it serves; nil means that it is ready once it runs.
	Ready func(context.Context) error

	mu      sync.Mutex
	process *Process
}

// readyTimeout is how long a component may take to serve.
const readyTimeout = 90 * time.Second

// Start starts the program and waits until it serves. It is an error if it
// runs already.
func (c *Component) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		return fmt.Errorf("%s runs already", c.Name)
	}
	running, err := Start(c.Name, c.Path, c.Args, c.Log)
	if err != nil {
		return err
	}
	c.process = running
	if err := c.waitReady(ctx, running); err != nil {
		running.Kill()
		c.process = nil
		return err
	}
	return nil
}

func (c *Component) waitReady(ctx context.Context, running *Process) error {
	if c.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		err := c.Ready(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-running.Done():
			return running.Ended()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", c.Name, err, Tail(c.Log, 15))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the program in an orderly way. It does nothing if it does not run.
func (c *Component) Stop() { c.end((*Process).Stop) }

// Kill ends the program at once, as a crash would.
func (c *Component) Kill() { c.end((*Process).Kill) }

func (c *Component) end(how func(*Process)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		how(c.process)
		c.process = nil
	}
}

// Restart stops the program and starts it again.
func (c *Component) Restart(ctx context.Context) error {
	c.Stop()
	return c.Start(ctx)
}

// Freeze stops the program where it is, and waits until it has: connections stay
// open and nothing answers. Thaw lets it go on.
func (c *Component) Freeze() error {
	if err := c.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.process != nil {
		stopped, err := c.process.stopped()
		if err != nil || stopped {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New(c.Name + " does not run")
}

// Thaw lets a frozen program go on.
func (c *Component) Thaw() error { return c.signal(syscall.SIGCONT) }

func (c *Component) signal(s syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return errors.New(c.Name + " does not run")
	}
	return c.process.Signal(s)
}
