package devcluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a running program. The kernel kills it when this process ends,
// however it ends.
type process struct {
	name    string
	logPath string
	os      *os.Process
	done    chan struct{} // closed when it has ended
	state   error         // how it ended; read it after done
}

// startProcess starts a program whose output is appended to logPath.
func startProcess(name, path string, args []string, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0600)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, logPath: logPath, done: make(chan struct{})}
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

// stop asks the program to end, and kills it if it does not.
func (p *process) stop() {
	_ = p.os.Signal(syscall.SIGCONT) // it may be frozen
	_ = p.os.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.os.Kill()
	<-p.done
}

func (p *process) signal(s syscall.Signal) error {
	if err := p.os.Signal(s); err != nil {
		return fmt.Errorf("signalling %s: %w", p.name, err)
	}
	return nil
}

// ended says how the program ended, with the end of its log.
func (p *process) ended() error {
	return fmt.Errorf("%s ended: %w\n%s", p.name, errors.Join(p.state), tail(p.logPath, 15))
}

// tail is the last lines of a file.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
