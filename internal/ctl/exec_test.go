package ctl

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asMain has the test's own executable be projectorctl.
const asMain = "PROJECTORCTL_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		Main()
	}
	os.Exit(m.Run())
}

// TestExecRefuses: what is wrong before anything is started.
func TestExecRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no program", []string{"--on-rotate=signal:HUP"}, exitUsage, "exec takes a program to run"},
		{"nothing to do", []string{"true"}, exitUsage, `--on-rotate: invalid ""`},
		{"no such signal", []string{"--on-rotate=signal:HUPP", "true"}, exitUsage, `--on-rotate: there is no signal "HUPP"`},
		{"no such hook", []string{"--on-rotate=run:/no/such/hook", "true"}, exitUsage, "--on-rotate: exec: \"/no/such/hook\""},
		{"no time", []string{"--on-rotate=signal:HUP", "--wait", "--timeout=0s", "true"}, exitUsage, "--timeout=0s is no time to wait"},
		{"no token file", []string{"--on-rotate=signal:HUP", "--token=", "true"}, exitUsage, "the path is empty"},
		{"a token for the program", []string{"--on-rotate=signal:HUP", "true", "--token=eyJhbGciOiJub25lIn0"}, exitUsage, "is a token itself"},
		{"not there", []string{"--on-rotate=signal:HUP", "/no/such/program"}, 127, "no such file"},
		{"no program but a directory", []string{"--on-rotate=signal:HUP", "/"}, 126, "is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, stderr := execute(t, tt.args...)
			if code != tt.code || !strings.Contains(stderr, tt.says) {
				t.Errorf("exit %d, %q; want %d, %q", code, stderr, tt.code, tt.says)
			}
		})
	}
}

func execute(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"exec"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// ctlExec is a projectorctl exec that is a process of its own.
func ctlExec(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"exec"}, args...)...)
	cmd.Env = append(os.Environ(), asMain+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// giveUp ends a command that takes too long, and with its pipes whoever waits for
// them: its program, which it may have left alone, and the test.
func giveUp(t *testing.T, cmd *exec.Cmd, pipes ...io.Closer) {
	t.Helper()
	all := func() {
		_ = cmd.Process.Kill()
		for _, p := range pipes {
			_ = p.Close()
		}
	}
	timeout := time.AfterFunc(30*time.Second, all)
	t.Cleanup(func() {
		timeout.Stop()
		all()
	})
}

func exitCodeOf(t *testing.T, err error) int {
	t.Helper()
	ended := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if err == nil {
		return 0
	}
	return ended.ExitCode()
}

// TestExecPassesOn: the program's flags, output and exit code are its own.
func TestExecPassesOn(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	for _, tt := range []struct {
		name    string
		args    []string
		code    int
		out     string
		errPart string // all of it, if it is empty
	}{
		{"all", []string{"--token", token, "--on-rotate=signal:HUP", "--", "sh", "-c", `echo "$@"; exit 5`, "sh", "--wait", "--", "x"}, 5, "--wait -- x\n", ""},
		{"without --", []string{"--on-rotate=run:true", "--token", token, "sh", "-c", "exit 0"}, 0, "", ""},
		{"not in time", []string{"--on-rotate=signal:HUP", "--token", token, "--wait", "--timeout=50ms", "echo"}, exitNotReady, "", "no token in time, within 50ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.RemoveAll(token); err != nil {
				t.Fatal(err)
			}
			if tt.errPart == "" {
				replace(t, token, "opaque")
			}
			var out, errs bytes.Buffer
			cmd := ctlExec(t, tt.args...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			code := exitCodeOf(t, cmd.Run())
			if code != tt.code || out.String() != tt.out || !strings.Contains(errs.String(), tt.errPart) || tt.errPart == "" && errs.Len() > 0 {
				t.Errorf("exit %d, %q %q; want %+v", code, &out, &errs, tt)
			}
		})
	}
}

// TestExecKeepsIgnored: what is ignored when it starts, as a shell has it in the
// background, is ignored in the program, which a signal would end otherwise.
func TestExecKeepsIgnored(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	caught := make(chan os.Signal, 1) // so that nothing of these tests is ignored below nohup
	signal.Notify(caught, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, tt := range []struct {
		ignored string
		codes   map[string]int // by the signal that the program gets
	}{
		{"", map[string]int{"INT": 130, "HUP": 129}},
		{"INT", map[string]int{"INT": 0, "HUP": 129}},
		{"HUP", map[string]int{"INT": 130, "HUP": 0}},
	} {
		for name, code := range tt.codes {
			cmd := ctlExec(t, "--token", token, "--on-rotate=signal:USR1", "--", "sh", "-c", "kill -"+name+" $$")
			if tt.ignored != "" {
				shell := exec.Command("sh", append([]string{"-c", `trap "" ` + tt.ignored + `; exec "$0" "$@"`}, cmd.Args...)...)
				cmd.Path, cmd.Args = shell.Path, shell.Args
			}
			if got := exitCodeOf(t, cmd.Run()); got != code {
				t.Errorf("SIG%s with %q ignored: exit %d, want %d", name, tt.ignored, got, code)
			}
		}
	}
}

// TestExecTells has a hook run, and a signal end the program and not projectorctl.
func TestExecTells(t *testing.T) {
	dir := t.TempDir()
	token, hook := filepath.Join(dir, "token"), filepath.Join(dir, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"rotated $TOKEN_PATH\"\n"), 0700); err != nil {
		t.Fatal(err)
	}
	replace(t, token, "one")
	cmd := ctlExec(t, "--token", token, "--on-rotate=run:"+hook, "--wait", "--", "sh", "-c",
		`trap 'echo told; exit 9' TERM; echo ready; while read -r line; do :; done`)
	var ends []*bufio.Reader
	var pipes []io.Closer
	for _, pipe := range []func() (io.ReadCloser, error){cmd.StdoutPipe, cmd.StderrPipe} {
		end, err := pipe()
		if err != nil {
			t.Fatal(err)
		}
		ends, pipes = append(ends, bufio.NewReader(end)), append(pipes, end)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp(t, cmd, append(pipes, stdin)...)
	says := func(end int, want string) {
		t.Helper()
		if line, err := ends[end].ReadString('\n'); line != want+"\n" {
			t.Fatalf("it says %q, %v; want %q", line, err, want)
		}
	}
	says(0, "ready")
	for _, text := range []string{"two", "three"} {
		replace(t, token, text)
		says(1, "rotated "+token)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	says(0, "told")
	if code := exitCodeOf(t, cmd.Wait()); code != 9 {
		t.Errorf("exit %d, want 9", code)
	}
}

// TestExecUnheard: that nobody reads what it says ends nothing. The hook has the
// program told that it has run, and then fails.
func TestExecUnheard(t *testing.T) {
	dir := t.TempDir()
	token, hook := filepath.Join(dir, "token"), filepath.Join(dir, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nkill -USR1 $PPID\nexit 1\n"), 0700); err != nil {
		t.Fatal(err)
	}
	replace(t, token, "one")
	cmd := ctlExec(t, "--token", token, "--on-rotate=run:"+hook, "--wait", "--", "sh", "-c",
		`told=0; trap 'told=$((told + 1)); echo told; [ $told -lt 2 ] || exit 9' USR1; echo ready; for i in 1 2 3 4 5; do read -r line; done`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	nobody, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp(t, cmd, stdin, stdout)
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatal(line, err)
	}
	replace(t, token, "two")
	rest, err := io.ReadAll(lines)
	if string(rest) != "told\ntold\n" || err != nil {
		t.Errorf("it says %q, %v; want it to be told twice", rest, err)
	}
	if code := exitCodeOf(t, cmd.Wait()); code != 9 {
		t.Errorf("exit %d, want 9", code)
	}
}

// replace writes a file as its readers want it: in one step.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+"-new", []byte(text), 0600), os.Rename(path+"-new", path)); err != nil {
		t.Fatal(err)
	}
}
