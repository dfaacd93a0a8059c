package tokenfile_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/tokenfile"
)

const (
	// childEnv has the test program be a child that follows this file, and pollEnv
	// polls it so often.
	childEnv = "TOKENFILE_TEST_PATH"
	pollEnv  = "TOKENFILE_TEST_POLL"
	// instancesEnv has it allow itself so many inotify instances first.
	instancesEnv = "TOKENFILE_TEST_INSTANCES"
)

// child follows a file and prints the number of each token, and what hinders it.
func child(path string) int {
	fail := func(err error) int { fmt.Println("child:", err); return 1 }
	if n := os.Getenv(instancesEnv); n != "" {
		if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte(n), 0); err != nil {
			return fail(err)
		}
	}
	poll, err := time.ParseDuration(os.Getenv(pollEnv))
	if err != nil {
		return fail(err)
	}
	s, err := tokenfile.Open(path, tokenfile.WithPoll(poll), tokenfile.WithReport(func(err error) { fmt.Println("report:", err) }))
	if err != nil {
		return fail(err)
	}
	go func() { _ = s.Run(context.Background()) }()
	for {
		changed := s.Changed()
		if token, err := s.Token(context.Background()); err == nil {
			fmt.Println(number(token.Reveal()))
		}
		<-changed
	}
}

// process is a child, and the lines that it prints.
type process struct {
	*testing.T
	cmd   *exec.Cmd
	lines chan string
	past  []string
}

func start(t *testing.T, path string, poll time.Duration, attr *syscall.SysProcAttr, env ...string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childEnv+"="+path, pollEnv+"="+poll.String()), env...)
	cmd.SysProcAttr, cmd.Stderr = attr, os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &process{T: t, cmd: cmd, lines: make(chan string, 100_000)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	return p
}

// prints waits for a line that begins so, if it wasn't there before, and fails at
// one that tells of a torn token.
func (p *process) prints(want string, within time.Duration) {
	p.Helper()
	begins := func(line string) bool { return strings.HasPrefix(line, want) }
	limit := time.After(within)
	for !slices.ContainsFunc(p.past, begins) {
		select {
		case line := <-p.lines:
			if p.past = append(p.past, line); line == "-1" || strings.HasPrefix(line, "child:") {
				p.Fatal(line)
			}
		case <-limit:
			p.Fatalf("%q was not printed within %s, but %q", want, within, p.past)
		}
	}
}

// TestInotifyExhausted: with no inotify instance left, the poll does it.
func TestInotifyExhausted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put, err := kubeletWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(1); err != nil {
		t.Fatal(err)
	}
	const poll = 500 * time.Millisecond
	id := func(n int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: n, Size: 1}}
	}
	p := start(t, path(dir), poll, &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: id(os.Geteuid()), GidMappings: id(os.Getegid()),
	}, instancesEnv+"=0")
	p.prints("1", patience)
	p.prints("report: watching "+dir+": couldn't initialize inotify: too many open files", patience)
	for n := 2; n < 6; n++ {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
		p.prints(strconv.Itoa(n), poll+prompt)
	}
}

// TestQueueOverflows stops the process that follows until the kernel has thrown
// events away, those of the last swap among them.
func TestQueueOverflows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put, err := kubeletWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(1); err != nil {
		t.Fatal(err)
	}
	p := start(t, path(dir), never, nil)
	p.prints("1", patience)
	if err := put(2); err != nil { // with an event, so it watches
		t.Fatal(err)
	}
	p.prints("2", patience)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	full := overflow(t, dir)
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for n := range limit/2 + 1 { // a creation and a removal each
		name := filepath.Join(dir, strconv.Itoa(n))
		if err := os.Mkdir(name, 0700); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(3); err != nil {
		t.Fatal(err)
	}
	if !full() {
		t.Fatal("the queue did not overflow, so nothing was tested")
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.prints("3", prompt)
	if err := put(4); err != nil {
		t.Fatal(err)
	}
	p.prints("4", prompt)
}

// overflow begins to watch a directory as the child does, without reading, and
// returns what says whether events were thrown away.
func overflow(t *testing.T, dir string) func() bool {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		t.Cleanup(func() { _ = unix.Close(fd) })
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() bool {
		buf := make([]byte, 1<<16)
		for {
			n, err := unix.Read(fd, buf)
			if err != nil {
				return false // nothing left
			}
			for at := 0; at+unix.SizeofInotifyEvent <= n; {
				e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
				if e.Mask&unix.IN_Q_OVERFLOW != 0 {
					return true
				}
				at += unix.SizeofInotifyEvent + int(e.Len)
			}
		}
	}
}
