//go:build e2e

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reading are the calls that change nothing. Every other that succeeds and names a
// CSI volume, or has a descriptor of one, is a step, so that none that is added later
// can escape.
var reading = []string{
	"close", "faccessat", "faccessat2", "fcntl", "fstat", "fstatfs", "getdents64", "lseek", "newfstatat", "pread64", "read",
	"readlinkat", "statfs", "statx",
}

// hold is how long a process waits after each step, so that a kill comes before the
// next one.
const hold = 50 * time.Millisecond

// step is a system call that changes a CSI volume.
type step struct {
	name string
	text string // as strace prints it, without what is written
}

// trace is what a process does to CSI volumes, as strace tells it.
type trace struct {
	strace *exec.Cmd
	target int           // the traced process
	kill   int           // the number of the step that is its last; 0 is none
	done   chan struct{} // closed when strace has ended; read the rest after it

	steps  []step
	killed bool   // strace has seen it die by a kill
	errors string // what else strace says
}

// trace attaches strace to a process and returns when it has. After the step of
// number kill, unless that is 0, the process is killed. So that it does no other
// before, it waits after each call of one of the names in held.
func (r *rig) trace(target, kill int, held []string) *trace {
	r.Helper()
	args := []string{"-f", "-y", "-s", "0", "-o", "/dev/fd/3", "-e", "trace=%file,%desc", "-e", "signal=KILL", "-p", strconv.Itoa(target)}
	if kill > 0 {
		args = append(args, "-e", fmt.Sprintf("inject=%s:delay_exit=%d", strings.Join(held, ","), hold.Microseconds()))
	}
	tr := &trace{strace: exec.CommandContext(r.ctx, "strace", args...), target: target, kill: kill, done: make(chan struct{})}
	lines, theirs, err := os.Pipe()
	r.must(err)
	tr.strace.ExtraFiles = []*os.File{theirs}
	stderr, err := tr.strace.StderrPipe()
	r.must(err)
	r.must(tr.strace.Start())
	r.must(theirs.Close())
	said := bufio.NewReader(stderr)
	if first, err := said.ReadString('\n'); err != nil || !strings.Contains(first, " attached") {
		r.Fatalf("strace does not attach: %q, %v", first, err)
	}
	go tr.follow(lines, said)
	return tr
}

// follow reads what strace prints, until it ends.
func (tr *trace) follow(lines io.ReadCloser, said io.Reader) {
	defer close(tr.done)
	unfinished := map[string]string{}
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		thread, text, _ := strings.Cut(scanner.Text(), " ")
		text = strings.TrimLeft(text, " ")
		tr.killed = tr.killed || text == "+++ killed by SIGKILL +++"
		s, is := parseStep(whole(thread, text, unfinished))
		if !is {
			continue
		}
		tr.steps = append(tr.steps, s)
		if len(tr.steps) == tr.kill {
			_ = syscall.Kill(tr.target, syscall.SIGKILL)
		}
	}
	// What the process was in the middle of when it died may have been done.
	for _, call := range unfinished {
		if s, is := parseStep(call + ") = ?"); is {
			tr.steps = append(tr.steps, s)
		}
	}
	rest, err := io.ReadAll(said)
	tr.errors = string(rest)
	if err := errors.Join(err, lines.Close(), tr.strace.Wait()); err != nil {
		tr.errors += err.Error()
	}
}

var (
	resumed = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
	callOf  = regexp.MustCompile(`^(\w+)\(.*\) += (\d+|\?)`)
)

// whole joins the two parts of a call that strace prints when another thread's call
// comes between; it is empty for the first of them.
func whole(thread, text string, unfinished map[string]string) string {
	if begun, cut := strings.CutSuffix(text, " <unfinished ...>"); cut {
		unfinished[thread] = begun
		return ""
	}
	if end := resumed.FindStringSubmatch(text); end != nil {
		text = unfinished[thread] + end[1]
		delete(unfinished, thread)
	}
	return text
}

// parseStep says whether a call is a step.
func parseStep(call string) (step, bool) {
	parts := callOf.FindStringSubmatch(call)
	if parts == nil || !strings.Contains(call, "/kubernetes.io~csi/") || slices.Contains(reading, parts[1]) {
		return step{}, false
	}
	if strings.HasPrefix(parts[1], "open") && !strings.Contains(call, "O_CREAT") && !strings.Contains(call, "O_TRUNC") {
		return step{}, false
	}
	return step{name: parts[1], text: call}, true
}

// detach lets the process go on without strace, and returns what it did.
func (tr *trace) detach() ([]step, error) {
	if err := tr.strace.Process.Signal(syscall.SIGINT); err != nil {
		return nil, err
	}
	err := tr.wait()
	return tr.steps, err
}

// wait waits until strace has ended.
func (tr *trace) wait() error {
	select {
	case <-tr.done:
		return nil
	case <-time.After(patience):
		return errors.New("waited too long for the trace to end")
	}
}

// missed says why the kill did not come between two steps: it should have come
// after one of this name, and before the next.
func (tr *trace) missed(name string) error {
	switch {
	case !tr.killed:
		return fmt.Errorf("the process was not killed, and strace says %q", tr.errors)
	case len(tr.steps) != tr.kill || tr.steps[tr.kill-1].name != name:
		return fmt.Errorf("the kill came not after step %d, %s, and before the next: %+v", tr.kill, name, tr.steps)
	}
	return nil
}

// TestTrace reads what strace printed of steps and of what is none.
func TestTrace(t *testing.T) {
	const dir = "/var/lib/kubelet/pods/0a/volumes/kubernetes.io~csi/tokens/mount"
	lines := strings.NewReplacer("DIR", dir).Replace(`10 mkdirat(AT_FDCWD</>, "DIR", 0755) = 0 (DELAYED)
11 openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 7</etc/hosts>
10 mount("projectord", "DIR", ""..., MS_NOSUID|MS_NODEV|MS_NOEXEC, ""... <unfinished ...>
11 write(1<pipe:[1]>, ""..., 200) = 200
10 <... mount resumed>) = -1 EINVAL (Invalid argument)
10 openat2(16<DIR>, "token", {flags=O_WRONLY|O_CREAT|O_EXCL, mode=0600}, 24) = 17<DIR/token>
11 read(17<DIR/token>, ""..., 4096) = 10
12 openat(AT_FDCWD</>, "DIR", O_RDONLY|O_DIRECTORY) = 18<DIR>
10 write(17<DIR/token>, ""..., 10 <unfinished ...>
12 fchmod(17<DIR/token>, 0644 <unfinished ...>
10 <... write resumed>) = 10
12 <... fchmod resumed>) = ?
11 umount2("DIR", UMOUNT_NOFOLLOW <unfinished ...>
10 +++ killed by SIGKILL +++
`)
	tr := &trace{strace: exec.CommandContext(t.Context(), "true"), done: make(chan struct{})}
	if err := tr.strace.Start(); err != nil {
		t.Fatal(err)
	}
	tr.follow(io.NopCloser(strings.NewReader(lines)), strings.NewReader(""))
	var names []string
	for _, s := range tr.steps {
		names = append(names, s.name)
	}
	if got := strings.Join(names, " "); got != "mkdirat openat2 write fchmod umount2" {
		t.Errorf("steps %s", got)
	}
	for _, tt := range []struct {
		kill   int
		name   string
		killed bool
		good   bool
	}{{5, "umount2", true, true}, {5, "umount2", false, false}, {5, "write", true, false}, {4, "fchmod", true, false}, {6, "umount2", true, false}} {
		tr.kill, tr.killed = tt.kill, tt.killed
		if err := tr.missed(tt.name); (err == nil) != tt.good {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
