//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// point is one system call of a scenario: the when-th of its name.
type point struct {
	name string
	when int
}

func (p point) String() string { return fmt.Sprintf("%s#%d", p.name, p.when) }

// runtimeCalls are the Go runtime's, whose number differs from run to run.
// Every other call is a point, so that none that is added later can escape.
var runtimeCalls = map[string]bool{
	"futex": true, "nanosleep": true, "clock_nanosleep": true, "sched_yield": true, "madvise": true, "mmap": true, "munmap": true,
	"mprotect": true, "rt_sigaction": true, "rt_sigprocmask": true, "rt_sigreturn": true, "sigaltstack": true, "gettid": true,
	"getpid": true, "tgkill": true, "clone": true, "clone3": true, "epoll_create1": true, "epoll_ctl": true, "epoll_pwait": true,
	"eventfd2": true, "timer_create": true, "timer_settime": true, "timer_delete": true, "restart_syscall": true, "getrandom": true,
}

// child is the traced program.
type child struct{ program string }

// environment makes the runtime's calls as few and as regular as they can be.
var environment = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")

// buildChild compiles the traced program; overlay is for go build, or empty.
func buildChild(t *testing.T, overlay string) child {
	t.Helper()
	program := filepath.Join(t.TempDir(), "child")
	args := []string{"build", "-o", program}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./child")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return child{program}
}

// run runs the program and returns what it prints if it fails.
func (c child) run(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, c.program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), err)
	}
	return nil
}

// traced runs a scenario under strace, with a fault if one is given, and
// returns the trace's lines and the program's own error.
func (c child) traced(ctx context.Context, act, scenarioName, dir, fault string) (lines []string, err error) {
	trace := dir + ".trace"
	args := []string{"-o", trace, "-s", "64"}
	if fault != "" {
		args = append(args, "-e", "inject="+fault)
	}
	cmd := exec.CommandContext(ctx, "strace", append(args, c.program, act, scenarioName, dir)...)
	cmd.Env = environment
	out, runErr := cmd.CombinedOutput()
	if errors.Is(runErr, exec.ErrNotFound) {
		return nil, errors.New("strace is not installed; on Debian: apt-get install strace")
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		return nil, fmt.Errorf("%w; strace said %s", err, out)
	}
	lines = strings.Split(strings.TrimSpace(string(text)), "\n")
	if runErr != nil {
		err = fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), runErr)
	}
	return lines, err
}

// callName is the system call of a trace's line.
func callName(line string) string {
	name, _, found := strings.Cut(line, "(")
	if !found {
		return ""
	}
	return name
}

// points are all calls between the marks, and the mark after the last one.
func points(lines []string) []point {
	counts := map[string]int{}
	var out []point
	inside := false
	for _, line := range lines {
		name := callName(line)
		if name == "" {
			continue
		}
		counts[name]++
		if strings.Contains(line, "/MARK-BEGIN") {
			inside = true
			continue
		}
		if inside && !runtimeCalls[name] {
			out = append(out, point{name, counts[name]})
		}
		if strings.Contains(line, "/MARK-END") {
			return out
		}
	}
	return nil
}
