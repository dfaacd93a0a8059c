package wrap_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/token-projector/token-projector/internal/wrap"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

func TestExitCodes(t *testing.T) {
	v := newVolume(t)
	file := func(name, text string) []string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0700); err != nil {
			t.Fatal(err)
		}
		return []string{path}
	}
	for _, tt := range []struct {
		name    string
		program []string
		code    int
	}{
		{"done", self("exit", "0"), 0},
		{"failed", self("exit", "7"), 7},
		{"killed", self("die", "9"), 137},
		{"ended by a signal", self("die", "15"), 143},
		{"no program", file("text", "text"), wrap.CannotRun},
		{"no interpreter", file("script", "#!/no/such/interpreter\n"), wrap.NotThere},
		{"not there", []string{filepath.Join(t.TempDir(), "none")}, wrap.NotThere},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := start(t, command(v, "0s", "signal:HUP", tt.program)).ends(t, tt.code)
			if strings.Contains(text, "error:") != (tt.code == wrap.CannotRun || tt.code == wrap.NotThere) {
				t.Errorf("it says %q", text)
			}
		})
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for name, mode := range map[string]os.FileMode{"good": 0700, "bad": 0600} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, path string
		code       int
	}{
		{"good", dir + "/good", 0},
		{dir + "/good", dir + "/good", 0},
		{"none", "", wrap.NotThere},
		{dir + "/none", "", wrap.NotThere},
		{dir + "/bad", "", wrap.CannotRun},
		{dir, "", wrap.CannotRun},
	} {
		if path, code, err := wrap.Find(tt.name); path != tt.path || code != tt.code || (err == nil) != (code == 0) {
			t.Errorf("%s: %q %d %v", tt.name, path, code, err)
		}
	}
}

func TestWait(t *testing.T) {
	t.Run("a token that comes", func(t *testing.T) {
		v := newVolume(t)
		v.write(t, rotationtest.JWT(`{"exp": 1000000000}`))
		w := start(t, command(v, "1m", "signal:HUP", self("echo")))
		w.until(t, "seen") // it listens
		w.send(t, syscall.SIGWINCH)
		v.publish(t, 1)
		w.until(t, "ready")
		w.send(t, syscall.SIGTERM)
		if text := w.ends(t, 0); strings.Contains(text, line(syscall.SIGHUP)) {
			t.Errorf("what it starts with is no rotation:\n%s", text)
		}
	})
	notInTime := func(t *testing.T, v volume) {
		t.Helper()
		text := start(t, command(v, "200ms", "signal:HUP", self("echo"))).ends(t, 0)
		if !strings.Contains(text, "no token in time, within 200ms") || strings.Contains(text, "ready") {
			t.Errorf("it says %q", text)
		}
	}
	t.Run("none that comes", func(t *testing.T) { notInTime(t, newVolume(t)) })
	t.Run("one that has expired", func(t *testing.T) {
		v := newVolume(t)
		v.write(t, rotationtest.JWT(`{"exp": 1000000000}`))
		notInTime(t, v)
	})
	t.Run("a signal", func(t *testing.T) {
		v := newVolume(t)
		v.write(t, rotationtest.JWT(`{"exp": 1000000000}`))
		w := start(t, command(v, "1m", "signal:HUP", self("echo")))
		w.until(t, "seen") // it listens
		w.send(t, syscall.SIGTERM)
		if text := w.ends(t, 143); strings.Contains(text, "ready") {
			t.Errorf("the program was started:\n%s", text)
		}
	})
}

// TestFirstToken: without --wait it may come while the program starts, which a
// signal would end.
func TestFirstToken(t *testing.T) {
	v := newVolume(t)
	w := start(t, command(v, "0s", "signal:HUP", self("echo")))
	w.until(t, "ready")
	for n := range 2 {
		v.publish(t, n)
		w.until(t, "seen")
		w.settle(t)
	}
	w.send(t, syscall.SIGTERM)
	if text := w.ends(t, 0); strings.Count(text, line(syscall.SIGHUP)) != 1 {
		t.Errorf("want one signal for two tokens:\n%s", text)
	}
}

// TestPID1: it reaps what is left to it, and takes none of that for the program.
func TestPID1(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a PID namespace")
	}
	cmd := command(newVolume(t), "0s", "signal:HUP", self("parent"))
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	w := start(t, cmd)
	w.until(t, "reaped")
	w.ends(t, 3)
}
