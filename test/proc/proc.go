// Package proc runs the programs of a test or a demonstration: the kernel ends
// each with the process that started it, however that ends.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is a running program. Make it with Start. Its methods may be called
// concurrently.
type Process struct {
	name    string
	logPath string
	os      *os.Process
	done    chan struct{} // closed when it has ended
	state   error         // how it ended; read it after done
}

// Start starts a program whose output is appended to logPath.
func Start(name, path string, args []string, logPath string) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0600)
	if err != nil {
		return nil, err
	}
	p := &Process{name: name, logPath: logPath, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent-death signal comes when the thread that started the
		// child ends, so this thread is kept until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = log.Close() }()
		cmd := exec.Command(path, args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Pdeathsig: syscall.SIGKILL,
			Setpgid:   true, // a Ctrl-C reaches us only; we stop them in order
		}
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("starting %s: %w", name, err)
			return
		}
		p.os = cmd.Process
		started <- nil
		p.state = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stopTimeout is how long a program may take to end when it is asked to.
const stopTimeout = 5 * time.Second

// Stop asks the program to end, and kills it if it does not.
func (p *Process) Stop() {
	_ = p.os.Signal(syscall.SIGCONT) // it may be frozen
	_ = p.os.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Kill()
	}
}

// Kill ends the program at once, as a crash would.
func (p *Process) Kill() {
	_ = p.os.Kill()
	<-p.done
}

// Signal sends a signal to the program.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.os.Signal(s); err != nil {
		return fmt.Errorf("signalling %s: %w", p.name, err)
	}
	return nil
}

// stopped says whether each thread has stopped, which they do one after another
// (proc_pid_stat(5)).
func (p *Process) stopped() (bool, error) {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.os.Pid))
	if err != nil || len(stats) == 0 {
		return false, errors.Join(err, errors.New(p.name+" does not run"))
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		// The name before the state may hold anything.
		_, state, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
		if !strings.HasPrefix(state, "T") {
			return false, nil
		}
	}
	return true, nil
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit waits for the program's end and returns nil if its exit code was 0.
func (p *Process) Exit() error {
	<-p.done
	return p.state
}

// Ended says how the program ended, with the end of its log. Call it when Done
// is closed.
func (p *Process) Ended() error {
	return fmt.Errorf("%s ended: %w\n%s", p.name, errors.Join(p.state), Tail(p.logPath, 15))
}

// Tail is the last lines of a file.
func Tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// PID is the program's process id.
func (p *Process) PID() int { return p.os.Pid }
