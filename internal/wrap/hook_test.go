package wrap_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestRotations: the program gets a signal for each.
func TestRotations(t *testing.T) {
	v := newVolume(t)
	v.publish(t, 0)
	w := start(t, command(v, "1m", "signal:USR2", self("echo")))
	w.until(t, "ready")
	for n := range 3 {
		v.publish(t, n+1)
		w.until(t, line(syscall.SIGUSR2))
	}
	w.send(t, syscall.SIGTERM)
	if text := w.ends(t, 0); strings.Count(text, line(syscall.SIGUSR2)) != 3 {
		t.Errorf("want 3 signals for 3 rotations:\n%s", text)
	}
}

// hooked starts a wrapper whose hook does as mode says.
func hooked(t *testing.T, mode string, env ...string) (w *wrapped, v volume, dir string) {
	t.Helper()
	v, dir = newVolume(t), t.TempDir()
	v.publish(t, 0)
	cmd := command(v, "1m", "run:"+os.Args[0], self("echo"),
		append(env, hookMode+"="+mode, hookDir+"="+dir, "TOKEN_PATH=")...)
	if _, err := cmd.StdinPipe(); err != nil { // stays open until it has ended
		t.Fatal(err)
	}
	w = start(t, cmd)
	w.until(t, "ready")
	return w, v, dir
}

// runs wants the hook to have run so often.
func (w *wrapped) runs(t *testing.T, times int) {
	t.Helper()
	w.send(t, syscall.SIGTERM)
	if text := w.ends(t, 0); strings.Count(text, "\nhook done\n") != times {
		t.Errorf("want %d runs of the hook:\n%s", times, text)
	}
}

// withToken is what a hook prints that finds a token that was published.
func withToken(n int) string { return "hook " + itoa(len(secret)+n) + " " }

func itoa(n int) string { return strconv.Itoa(n) }

func TestHook(t *testing.T) {
	w, v, _ := hooked(t, "works")
	for n := range 3 {
		v.publish(t, n+1)
		w.until(t, withToken(n+1))
		w.until(t, "hook done")
	}
	w.runs(t, 3)
}

func TestHookFails(t *testing.T) {
	w, v, _ := hooked(t, "fails once")
	v.publish(t, 1)
	w.until(t, withToken(1))
	w.until(t, "report: hook "+os.Args[0]+": it exited with 5; again in 10ms")
	w.until(t, withToken(1))
	w.until(t, "hook done")
	w.settle(t)
	w.runs(t, 1)
}

func TestHookHangs(t *testing.T) {
	w, v, _ := hooked(t, "hangs once", hookTime+"=1s")
	v.publish(t, 1)
	w.until(t, withToken(1))
	w.until(t, "report: hook "+os.Args[0]+": it took longer than 1s and was killed; again in 10ms")
	w.until(t, withToken(1))
	w.until(t, "hook done")
	w.send(t, syscall.SIGTERM)
	w.ends(t, 0)
}

// TestHookIsForTheNewest: two rotations while it runs are one more run.
func TestHookIsForTheNewest(t *testing.T) {
	w, v, dir := hooked(t, "gated")
	gate := filepath.Join(dir, "gate")
	if err := syscall.Mkfifo(gate, 0600); err != nil {
		t.Fatal(err)
	}
	v.publish(t, 1)
	w.until(t, withToken(1))
	for n := range 2 {
		v.publish(t, n+2)
		w.until(t, "seen")
		w.settle(t)
	}
	for _, next := range []string{withToken(3), "hook done"} {
		opened, err := os.OpenFile(gate, os.O_WRONLY, 0) // waits for the hook
		if err != nil {
			t.Fatal(err)
		}
		_ = opened.Close()
		w.until(t, "hook done")
		if next != "hook done" {
			w.until(t, next)
		}
	}
	w.settle(t)
	w.runs(t, 2)
}

func TestHookEndsWithTheProgram(t *testing.T) {
	w, v, _ := hooked(t, "hangs")
	v.publish(t, 1)
	fields := strings.Fields(w.until(t, withToken(1)))
	w.runs(t, 0)
	if pid, err := strconv.Atoi(fields[2]); err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("the hook is still there: %v", err)
	}
}

// TestGivenUp: a test that fails leaves neither the program nor a hook behind; start
// looks for that.
func TestGivenUp(t *testing.T) {
	var w *wrapped
	t.Run("in the middle", func(t *testing.T) {
		var v volume
		w, v, _ = hooked(t, "hangs")
		v.publish(t, 1)
		w.until(t, withToken(1))
	})
	if w.ProcessState == nil {
		t.Error("the wrapper was not waited for")
	}
}
