package wrap_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// secret is in each token.
const secret = "s3cret"

// patience is for what happens at once, on a machine that is busy.
const patience = 30 * time.Second

// volume is a directory like a kubelet's.
type volume struct {
	dir *atomicdir.Dir
	// token is the path of its file.
	token string
}

func newVolume(t *testing.T) volume {
	t.Helper()
	dir := t.TempDir()
	return volume{atomicdir.New(dir), dir + "/token"}
}

// publish has the volume hold a token that is n bytes longer than the secret.
func (v volume) publish(t *testing.T, n int) {
	t.Helper()
	v.write(t, secret+strings.Repeat("x", n))
}

func (v volume) write(t *testing.T, text string) {
	t.Helper()
	if _, err := v.dir.Publish([]atomicdir.File{{Path: "token", Data: []byte(text), Mode: 0600}}); err != nil {
		t.Fatal(err)
	}
}

// wrapped is a wrapper that runs.
type wrapped struct {
	*exec.Cmd
	lines chan string
	all   strings.Builder
}

// self is a role of the test's own executable.
func self(role ...string) []string { return append([]string{os.Args[0], as}, role...) }

// command is a wrapper in a session of its own, so that no terminal matters.
func command(v volume, wait, on string, program []string, env ...string) *exec.Cmd {
	argv := append(self("wrapper", v.token, wait, on), program...)
	cmd := exec.Command(argv[0], argv[1:]...)
	// The race detector would wait for a second before each process ends.
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// start starts a wrapper. What it and its programs print is checked for the secret.
func start(t *testing.T, cmd *exec.Cmd) *wrapped {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	w := &wrapped{Cmd: cmd, lines: make(chan string, 1000)}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			w.lines <- lines.Text()
		}
		close(w.lines)
	}()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			killSession(t, cmd.Process.Pid)
			_ = cmd.Wait()
		}
		if !w.rest() {
			t.Error("it has left processes behind")
		}
		_ = out.Close()
	})
	return w
}

// killSession kills a wrapper that was not waited for, its program, and its hooks
// with all that they have started: not all of that is in one process group.
func killSession(t *testing.T, leader int) {
	t.Helper()
	killed := map[int]bool{}
	for more := true; more; { // a process may have started another meanwhile
		more = false
		processes, err := os.ReadDir("/proc")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range processes {
			pid, err := strconv.Atoi(p.Name())
			if err != nil || killed[pid] {
				continue
			}
			if session, err := unix.Getsid(pid); err == nil && session == leader {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed[pid], more = true, true
			}
		}
	}
}

// rest reads what is still printed, and says whether that ended: with the last
// process that could print.
func (w *wrapped) rest() bool {
	for timeout := time.After(patience); ; {
		select {
		case line, more := <-w.lines:
			if !more {
				return true
			}
			w.all.WriteString(line + "\n")
		case <-timeout:
			return false
		}
	}
}

// until reads lines up to one that begins like this, and returns it.
func (w *wrapped) until(t *testing.T, begins string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, more := <-w.lines:
			if !more {
				t.Fatalf("it ended without %q:\n%s", begins, &w.all)
			}
			w.all.WriteString(line + "\n")
			if strings.HasPrefix(line, begins) {
				return line
			}
		case <-timeout:
			t.Fatalf("no %q:\n%s", begins, &w.all)
		}
	}
}

func (w *wrapped) send(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := w.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// settle has the wrapper do what there is to do: of what is ready it takes any, so
// that after so many signals all else was taken too.
func (w *wrapped) settle(t *testing.T) {
	t.Helper()
	for range 30 {
		w.send(t, syscall.SIGUSR1)
		w.until(t, line(syscall.SIGUSR1))
	}
}

// line is what a program prints of a signal.
func line(s syscall.Signal) string { return "signal " + strconv.Itoa(int(s)) + "." }

// ends wants it to end with a code, and to have shown no token. It returns all that
// was printed.
func (w *wrapped) ends(t *testing.T, code int) string {
	t.Helper()
	if !w.rest() {
		t.Fatalf("it does not end:\n%s", &w.all)
	}
	err := w.Wait()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	text := w.all.String()
	if got := w.ProcessState.ExitCode(); got != code {
		t.Errorf("it exited with %d, want %d:\n%s", got, code, text)
	}
	if strings.Contains(text, secret) {
		t.Error("it shows a token")
	}
	return text
}
