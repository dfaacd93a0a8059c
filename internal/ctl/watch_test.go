package ctl

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

const (
	added    = api.EventType_EVENT_TYPE_ADDED
	modified = api.EventType_EVENT_TYPE_MODIFIED
	deleted  = api.EventType_EVENT_TYPE_DELETED
)

var synced = &api.WatchVolumesResponse{Type: api.EventType_EVENT_TYPE_INITIAL_SYNC_COMPLETE}

func event(kind api.EventType, v *api.Volume) *api.WatchVolumesResponse {
	return &api.WatchVolumesResponse{Type: kind, Volume: v}
}

// rotated is v after its first token was replaced at noon.
func rotated(v *api.Volume) *api.Volume {
	v = proto.Clone(v).(*api.Volume)
	v.Tokens[0] = token("db/token", "db", 0, 8*time.Minute)
	v.Generation += "1"
	return v
}

// until is an output that calls done once it has text in it.
type until struct {
	bytes.Buffer
	text string
	done func()
}

func (u *until) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if strings.Contains(u.String(), u.text) {
		u.done()
	}
	return n, err
}

// watch runs the command until its output has text in it.
func watch(t *testing.T, socket, text string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := until{text: text, done: cancel}
	var errs bytes.Buffer
	a := &app{now: func() time.Time { return noon }}
	code = a.run(ctx, append([]string{"watch", "--socket=" + socket}, args...), nil, &out, &errs)
	return code, out.String(), errs.String()
}

// TestWatchLines goes through a gap: what is as it was is not told again, and what went
// in the gap is.
func TestWatchLines(t *testing.T) {
	f := newFake()
	gone, pending, web := f.volumes[0], f.volumes[1], f.volumes[2]
	recovered := proto.Clone(pending).(*api.Volume)
	recovered.Phase, recovered.LastError = api.Phase_PHASE_READY, ""
	f.watches = [][]*api.WatchVolumesResponse{
		{event(added, gone), event(added, pending), event(added, web), synced, event(modified, rotated(web))},
		nil, // is there, and can't be watched yet
		{event(added, recovered), event(added, rotated(web)), synced, event(deleted, web)},
	}
	f.ends = []error{status.Error(codes.ResourceExhausted, "too slow: watch anew"), status.Error(codes.Unavailable, "starting")}
	code, stdout, stderr := watch(t, f.serve(t), "deleted   default/web/")
	const at = "2026-11-23T12:00:00Z  "
	want := at + "added     " + goneUID + "/tokens  terminating, next rotation overdue 3s: the Pod is gone\n" +
		at + "added     vault/vault-agent-5d8c7f9b6d-x7x2p/vault-token  pending: the ServiceAccount vault/vault-agent does not exist: create it\n" +
		at + "added     default/web/kube-api-access-s9spx  ready, next rotation in 6m0s\n" +
		at + "watching  volumes: 3\n" +
		at + "rotated   default/web/kube-api-access-s9spx  ready, next rotation in 8m0s\n" +
		at + "waiting   projectord: too slow: watch anew\n" +
		at + "waiting   projectord: starting\n" +
		at + "changed   vault/vault-agent-5d8c7f9b6d-x7x2p/vault-token  ready\n" +
		at + "deleted   " + goneUID + "/tokens\n" +
		at + "watching  volumes: 2\n" +
		at + "deleted   default/web/kube-api-access-s9spx\n"
	if code != exitOK || stdout != want {
		t.Errorf("exit %d, %s\n%s\nwant\n%s", code, stderr, stdout, want)
	}
}

// TestWatchOverARestart: projectord goes, an attempt to connect fails, and another one
// listens on the same path.
func TestWatchOverARestart(t *testing.T) {
	f := newFake()
	f.watches = [][]*api.WatchVolumesResponse{{event(added, f.volumes[2]), synced}}
	socket := filepath.Join(t.TempDir(), "s")
	first := f.serveOn(t, socket)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	restart := func() {
		f.serveOn(t, socket+".new")
		broken, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		broken.(*net.UnixListener).SetUnlinkOnClose(false)
		wg.Go(func() {
			conn, err := broken.Accept()
			err = errors.Join(err, os.Rename(socket+".new", socket), broken.Close())
			if err == nil {
				err = conn.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	const at = "2026-11-23T12:00:00Z  "
	out := until{}
	said := ""
	steps := []struct {
		text string
		do   func()
	}{
		{at + "watching  volumes: 1\n", func() { wg.Go(first.Stop) }},
		{at + "waiting   projectord has ended, or restarts\n", restart},
		{at + "watching  volumes: 1\n", cancel},
	}
	out.text, out.done = steps[0].text, func() {
		said += out.String()
		out.Reset()
		do := steps[0].do
		if steps = steps[1:]; len(steps) > 0 {
			out.text = steps[0].text
		}
		do()
	}
	a := &app{now: func() time.Time { return noon }}
	code := a.run(ctx, []string{"watch", "--socket=" + socket}, nil, &out, &bytes.Buffer{})
	want := at + "added     default/web/kube-api-access-s9spx  ready, next rotation in 6m0s\n" +
		at + "watching  volumes: 1\n" + at + "waiting   projectord has ended, or restarts\n" + at + "watching  volumes: 1\n"
	if code != exitOK || said != want {
		t.Errorf("exit %d\n%s\nwant\n%s", code, said, want)
	}
}

func TestWatchJSON(t *testing.T) {
	f := newFake()
	sent := []*api.WatchVolumesResponse{event(added, f.volumes[2]), synced, event(deleted, f.volumes[2])}
	f.watches = [][]*api.WatchVolumesResponse{sent[:2], sent[2:]}
	f.ends = []error{nil}
	code, stdout, stderr := watch(t, f.serve(t), "DELETED", "-o", "json")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != exitOK || len(lines) != len(sent) || stderr != "waiting: projectord has ended, or restarts\n" {
		t.Fatalf("exit %d, %q\n%s", code, stderr, stdout)
	}
	for i, line := range lines {
		got := &api.WatchVolumesResponse{}
		if err := protojson.Unmarshal([]byte(line), got); err != nil || !proto.Equal(got, sent[i]) {
			t.Errorf("%v: %s", err, line)
		}
	}
}

func TestLiveTable(t *testing.T) {
	f := newFake()
	now := noon
	table := &liveTable{now: func() time.Time { return now }, known: newTracker()}
	send := func(events ...*api.WatchVolumesResponse) {
		for _, e := range events {
			if err := table.event(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(what string, s size, want ...string) {
		t.Helper()
		got := table.lines(s)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for _, line := range got {
			if n := len([]rune(line)); n > s.columns && !strings.Contains(line, "\x1b") || len(got) > s.rows {
				t.Errorf("%s: %d lines, one of %d characters, on %v", what, len(got), n, s)
			}
		}
	}
	send(synced)
	check("nothing", size{80, 24},
		"POD  VOLUME  PHASE  TOKENS  NEXT ROTATION", "no volumes")
	for _, v := range f.volumes {
		send(event(added, v))
	}
	check("80 columns", size{80, 24},
		"POD             VOLUME          PHASE        TOKENS  NEXT ROTATION",
		"0c5f1d…f6f2f11  tokens          terminating  1       overdue 3s     [##########]",
		"vault/…d-x7x2p  vault-token     pending      0       -",
		"default/web     kube-a…s-s9spx  ready        2       in 6m0s        [##........]")
	check("wide, two rows of three", size{130, 4},
		"POD                                   VOLUME       PHASE        TOKENS  NEXT ROTATION",
		"0c5f1d3e-58a1-4a8c-8f2a-6f0a1f6f2f11  tokens       terminating  1       overdue 3s     [##############################]",
		"vault/vault-agent-5d8c7f9b6d-x7x2p    vault-token  pending      0       -",
		"and 1 more: projectorctl list")
	now = now.Add(6 * time.Minute)
	check("as time passes", size{130, 24},
		"POD                                   VOLUME                 PHASE        TOKENS  NEXT ROTATION",
		"0c5f1d3e-58a1-4a8c-8f2a-6f0a1f6f2f11  tokens                 terminating  1       overdue 6m3s   [##############################]",
		"vault/vault-agent-5d8c7f9b6d-x7x2p    vault-token            pending      0       -",
		"default/web                           kube-api-access-s9spx  ready        2       in 0s          [##############################]")
	send(event(modified, rotated(f.volumes[2])))
	table.colour = true
	check("a rotation stands out", size{100, 24},
		"\x1b[1mPOD                          VOLUME                 PHASE        TOKENS  NEXT ROTATION\x1b[0m",
		"0c5f1d3e-58a1…-6f0a1f6f2f11  tokens                 terminating  1       overdue 6m3s   [##########]",
		"\x1b[31mvault/vault-a…c7f9b6d-x7x2p  vault-token            pending      0       -\x1b[0m",
		"\x1b[1;32mdefault/web                  kube-api-access-s9spx  ready        2       in 2m0s        [#######...]\x1b[0m")
	now = now.Add(flash)
	if err := table.lost(errors.New("projectord has ended")); err != nil {
		t.Fatal(err)
	}
	check("for a while; and a gap is told", size{100, 24},
		"\x1b[1mPOD                          VOLUME                 PHASE        TOKENS  NEXT ROTATION\x1b[0m",
		"0c5f1d3e-58a1…-6f0a1f6f2f11  tokens                 terminating  1       overdue 6m5s   [##########]",
		"\x1b[31mvault/vault-a…c7f9b6d-x7x2p  vault-token            pending      0       -\x1b[0m",
		"default/web                  kube-api-access-s9spx  ready        2       in 1m58s       [#######...]",
		"\x1b[1;31mwaiting: projectord has ended\x1b[0m")
	send(event(added, rotated(f.volumes[2])), synced)
	check("until it is over, without what went in it", size{100, 24},
		"\x1b[1mPOD          VOLUME                 PHASE  TOKENS  NEXT ROTATION\x1b[0m",
		"default/web  kube-api-access-s9spx  ready  2       in 1m58s       [######################........]")
}

// TestWatchOnATerminal runs the command on a pseudo-terminal.
func TestWatchOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	f := newFake()
	f.watches = [][]*api.WatchVolumesResponse{{event(added, f.volumes[2]), synced}}
	master, slave := pseudoTerminal(t, size{90, 10})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var screen bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		for buffer := make([]byte, 4096); ; {
			n, err := master.Read(buffer)
			screen.Write(buffer[:n])
			if err != nil {
				return // EIO: the other side was closed
			}
			if strings.Contains(screen.String(), clearBelow) {
				cancel() // after one frame
			}
		}
	})
	a := &app{now: func() time.Time { return noon }}
	var errs bytes.Buffer
	code := a.run(ctx, []string{"watch", "--socket=" + f.serve(t)}, nil, slave, &errs)
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	const heading = "POD          VOLUME                 PHASE  TOKENS  NEXT ROTATION"
	const row = "default/web  kube-api-access-s9spx  ready  2       in 6m0s        [#####.................]"
	got := screen.String()
	start := enterScreen + toTop + heading + endOfLine + "\r\n" + row + endOfLine + clearBelow
	end := leaveScreen + heading + "\r\n" + row + "\r\n"
	if code != exitOK || !strings.HasPrefix(got, start) || !strings.HasSuffix(got, end) {
		t.Errorf("exit %d, %s\n%q\nwant %q ... %q", code, &errs, got, start, end)
	}
}

func pseudoTerminal(t *testing.T, s size) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(s.columns), Row: uint16(s.rows)}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
