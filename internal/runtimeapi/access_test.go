package runtimeapi

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/token-projector/token-projector/projector"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// TestSocketModes by who may use it.
func TestSocketModes(t *testing.T) {
	group := uint32(os.Getegid())
	tests := []struct {
		name      string
		peers     Peers
		dir, file fs.FileMode
	}{
		{"root", Peers{}, 0700, 0600},
		{"a group", Peers{Group: &group}, 0750, 0660},
		{"users", Peers{UIDs: []uint32{4242}}, 0711, 0666},
		{"a group and users", Peers{UIDs: []uint32{4242}, Group: &group}, 0751, 0666},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(0)) // no mode may be an umask's doing
			r := newRig(t, func(c *Config) { c.Peers = tt.peers })
			for path, want := range map[string]fs.FileMode{r.socket: tt.file, filepath.Dir(r.socket): tt.dir} {
				if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
					t.Errorf("%s: %v, %v; want %v", path, st.Mode(), err, want)
				}
			}
			r.end()
			if _, err := os.Lstat(filepath.Dir(r.socket)); !os.IsNotExist(err) {
				t.Errorf("its directory is left: %v", err)
			}
		})
	}
}

// TestSocketIsClosedFirst: an earlier process's directory is open, and nobody may come
// in while the socket is made anew.
func TestSocketIsClosedFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "admin")
	if err := os.Mkdir(dir, 0755); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(dir); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// TestOldSockets are removed if nobody serves them.
func TestOldSockets(t *testing.T) {
	served := newRig(t, plain)
	other, err := New(served.server.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another process serves "+served.socket) {
		t.Errorf("a second server: %v", err)
	}
	if info := served.info(); info.Node != "n" {
		t.Errorf("the first says %v", info)
	}

	leave := func(t *testing.T, leaveIt func(path string)) error {
		t.Helper()
		cfg := served.server.cfg
		cfg.Socket, cfg.Logger = filepath.Join(t.TempDir(), "a/s"), slog.New(slog.DiscardHandler)
		if err := os.Mkdir(filepath.Dir(cfg.Socket), 0700); err != nil {
			t.Fatal(err)
		}
		leaveIt(cfg.Socket)
		listener, err := listen(cfg.Socket, cfg.Peers)
		if err == nil {
			_ = listener.Close()
		}
		return err
	}
	t.Run("nobody's", func(t *testing.T) {
		if err := leave(t, func(path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		if err := leave(t, func(path string) {
			if err := os.WriteFile(path, []byte("x"), 0600); err != nil {
				t.Fatal(err)
			}
		}); err == nil || !strings.Contains(err.Error(), "is no socket") {
			t.Error(err)
		}
	})
}

// TestDirectories that are not for the socket alone.
func TestDirectories(t *testing.T) {
	tests := []struct {
		name string
		make func(path string) error
		root bool
	}{
		{"a group may write", func(path string) error { return os.Chmod(path, 0770) }, false},
		{"all may write", func(path string) error { return os.Chmod(path, 0702) }, false},
		{"all may write, and not remove", func(path string) error { return os.Chmod(path, 0777|fs.ModeSticky) }, false},
		{"somebody else's", func(path string) error { return os.Chown(path, 4242, 0) }, true},
		{"a link", func(path string) error {
			if err := os.Rename(path, path+"-real"); err != nil {
				return err
			}
			return os.Symlink(path+"-real", path)
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root {
				needsRoot(t)
			}
			dir := filepath.Join(t.TempDir(), "a")
			if err := os.Mkdir(dir, 0700); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			_, err := listen(filepath.Join(dir, "s"), Peers{})
			if err == nil || !strings.Contains(err.Error(), "nobody else can write to") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to be others")
	}
}

// TestImpostors are other processes: some may call.
func TestImpostors(t *testing.T) {
	needsRoot(t)
	group := uint32(7777)
	as := func(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	}
	inUserNamespace := func(uid int) *syscall.SysProcAttr {
		one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one, Credential: &syscall.Credential{}}
	}
	users, own := Peers{UIDs: []uint32{4242}}, Peers{OwnNamespaces: true}
	tests := []struct {
		name  string
		peers Peers
		attr  *syscall.SysProcAttr
		code  codes.Code // OK is served
		says  string
	}{
		{"root", Peers{}, as(0, 0), codes.OK, ""},
		{"a user", Peers{}, as(4242, 4242), codes.Unavailable, "permission denied"},
		{"a user who is allowed", users, as(4242, 4242), codes.OK, ""},
		{"another user", users, as(4343, 4242), codes.PermissionDenied, "uid 4343, gid 4242 may not call"},
		{"a user with root's group", users, as(4343, 0, 0), codes.PermissionDenied, "uid 4343, gid 0 may not call"},
		{"root in a user namespace", users, inUserNamespace(4343), codes.PermissionDenied, "uid 4343"},
		{"the group", Peers{Group: &group}, as(4242, group), codes.OK, ""},
		{"another group", Peers{Group: &group}, as(4242, 4242), codes.Unavailable, "permission denied"},
		{"the group as one of others", Peers{Group: &group}, as(4242, 4242, group), codes.PermissionDenied, "uid 4242, gid 4242 may not call"},
		{"this machine's own", own, as(0, 0), codes.OK, ""},
		{"another mount namespace", own, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}, codes.PermissionDenied, "another mnt namespace"},
		{"another PID namespace", own, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, codes.PermissionDenied, "another pid namespace"},
		{"another user namespace", own, inUserNamespace(0), codes.PermissionDenied, "another user namespace"},
		{"all of them", Peers{}, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, codes.OK, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := serving(t, func(c *Config) { c.Peers = tt.peers })
			if err := os.Chmod(filepath.Dir(filepath.Dir(r.socket)), 0711); err != nil { //nolint:gosec // as /run is
				t.Fatal(err)
			}
			r.addPod("here", "v")
			r.node.set(ready(projector.Key{PodUID: "here", Volume: "v"}, "..7"))
			answers := r.impostor(tt.attr)
			if tt.code == codes.OK {
				r.served(answers)
				return
			}
			r.denied(answers, tt.code.String(), tt.says)
			if v, _ := r.node.Volume(projector.Key{PodUID: "here", Volume: "v"}); v.Generation != "..7" || len(r.node.Volumes()) != 1 {
				t.Errorf("something was done: %v", r.node.Volumes())
			}
		})
	}
}

// TestDeniedConnections: who is denied can't keep the others out by staying.
func TestDeniedConnections(t *testing.T) {
	here, there := net.Pipe()
	defer func() { _, _ = here.Close(), there.Close() }()
	d := newDenials(here.LocalAddr(), slog.New(slog.DiscardHandler))
	for i := range maxDenied {
		if err := d.take(here, caller{denied: "x"}); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := d.take(here, caller{denied: "x"}); err == nil {
		t.Error("there is no limit")
	}
	conn, err := d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := d.take(here, caller{denied: "x"}); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}

// TestEndWithSilence: the server ends in its time although a connection never
// says anything.
func TestEndWithSilence(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := api.NewVolumeServiceClient(r.dial()).GetInfo(t.Context(), &api.GetInfoRequest{}); err != nil {
		t.Fatal(err) // whose connection was accepted after that
	}
	start := time.Now()
	r.end()
	if took := time.Since(start); took >= handshakeTimeout {
		t.Errorf("it took %s", took)
	}
}
