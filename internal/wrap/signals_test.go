package wrap_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/internal/wrap"
)

// own are the signals that a program gets for itself, or can't get.
var own = []syscall.Signal{
	syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF, syscall.SIGPIPE,
	syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, 32, 33, 34,
}

func TestSignals(t *testing.T) {
	w := start(t, command(newVolume(t), "0s", "signal:HUP", self("echo")))
	w.until(t, "ready")
	var want strings.Builder
	for s := syscall.Signal(1); s <= 64; s++ {
		if slices.Contains(own, s) || s == syscall.SIGTERM {
			continue
		}
		w.send(t, s)
		want.WriteString(w.until(t, line(s)) + "\n")
	}
	for _, s := range []syscall.Signal{syscall.SIGPIPE, syscall.SIGCHLD, syscall.SIGURG} {
		w.send(t, s)
	}
	w.send(t, syscall.SIGTERM)
	want.WriteString(line(syscall.SIGTERM) + "\n")
	if _, got, _ := strings.Cut(w.ends(t, 0), "ready\n"); got != want.String() {
		t.Errorf("the program got\n%swant\n%s", got, &want)
	}
}

// TestTerminal: what a key sends comes once, and what may end a container comes.
func TestTerminal(t *testing.T) {
	inForeground := func(t *testing.T, flags uintptr) (w *wrapped, keys *os.File) {
		t.Helper()
		keys, terminal := openTerminal(t)
		cmd := command(newVolume(t), "0s", "signal:HUP", self("echo"))
		cmd.SysProcAttr.Cloneflags = flags
		cmd.Stdin, cmd.SysProcAttr.Setctty = terminal, true // of descriptor 0
		w = start(t, cmd)
		w.until(t, "ready")
		return w, keys
	}
	t.Run("a key", func(t *testing.T) {
		w, keys := inForeground(t, 0)
		if _, err := keys.WriteString("\x03"); err != nil { // control C
			t.Fatal(err)
		}
		w.until(t, line(syscall.SIGINT))
		w.settle(t)
		w.send(t, syscall.SIGTERM)
		if text := w.ends(t, 0); strings.Count(text, line(syscall.SIGINT)) != 1 {
			t.Errorf("want SIGINT once:\n%s", text)
		}
	})
	t.Run("as PID 1", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root for a PID namespace")
		}
		w, _ := inForeground(t, syscall.CLONE_NEWPID)
		w.send(t, syscall.SIGQUIT)
		w.until(t, line(syscall.SIGQUIT))
		w.send(t, syscall.SIGTERM)
		w.ends(t, 0)
	})
}

// openTerminal makes a terminal, and the end that presses its keys.
func openTerminal(t *testing.T) (keys, terminal *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile("/dev/pts/"+itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return keys, terminal
}

// TestIgnored: what nohup does, and a shell to what it runs in the background, holds
// for the program too. Of other signals Go's runtime does not tell.
func TestIgnored(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		number := itoa(int(s))
		cmd := command(newVolume(t), "0s", "signal:USR1", self("is-ignored", number))
		cmd.Path, cmd.Args = os.Args[0], append(self("ignore", number), cmd.Args...)
		start(t, cmd).ends(t, 42)
	}
}

func TestParseOnRotate(t *testing.T) {
	for text, want := range map[string]wrap.OnRotate{
		"signal:HUP":       {Signal: syscall.SIGHUP},
		"signal:SIGUSR2":   {Signal: syscall.SIGUSR2},
		"run:/bin/true":    {Hook: "/bin/true"},
		"run:a:b c":        {Hook: "a:b c"},
		"run:":             {},
		"signal:":          {},
		"signal:NOPE":      {},
		"signal:1":         {},
		"/bin/true":        {},
		"":                 {},
		"exec:true":        {},
		"signal:HUP,USR1":  {},
		"signal:SIGSIGHUP": {},
	} {
		if got, err := wrap.ParseOnRotate(text); got != want || (err != nil) != (want == wrap.OnRotate{}) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}
