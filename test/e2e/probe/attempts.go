package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Where the Pod has the host's directories.
const (
	hostDir      = "/run/projectord"
	podResources = "/var/lib/kubelet/pod-resources"
)

// Somebody who has nothing to do with the Pod.
const foreignUser, foreignGroup = 1234, 4321

// attempts are what is tried. A note says more than that it went well.
var attempts = map[string]func() (note string, err error){
	"openat2, beneath": func() (string, error) {
		fd, err := unix.Openat2(unix.AT_FDCWD, hostDir, &unix.OpenHow{
			Flags: unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err == nil {
			err = unix.Close(fd)
		}
		return "", err
	},
	"statx": func() (string, error) {
		var st unix.Statx_t
		return "", unix.Statx(unix.AT_FDCWD, hostDir, 0, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	},
	"timerfd, cancelled when the clock is set": func() (string, error) {
		fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC)
		if err != nil {
			return "", err
		}
		far := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Now().Add(time.Hour).UnixNano())}
		return "", errors.Join(unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &far, nil), unix.Close(fd))
	},
	"inotify": func() (string, error) {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			return "", err
		}
		_, err = unix.InotifyAddWatch(fd, hostDir, unix.IN_CREATE)
		return "", errors.Join(err, unix.Close(fd))
	},
	"fchownat to a foreign user": func() (string, error) {
		return on(0, func(path string) error { return unix.Fchownat(unix.AT_FDCWD, path, foreignUser, -1, 0) })
	},
	"utimensat on a foreign user's file": func() (string, error) {
		return on(0, func(path string) error {
			past := []unix.Timespec{{Sec: 1}, {Sec: 1}}
			return errors.Join(unix.Chown(path, foreignUser, foreignGroup), unix.UtimesNanoAt(unix.AT_FDCWD, path, past, 0))
		})
	},
	"writing a foreign user's file of mode 0400": func() (string, error) {
		return on(0, func(path string) error {
			return errors.Join(unix.Chown(path, foreignUser, foreignGroup), unix.Chmod(path, 0400), os.WriteFile(path, nil, 0))
		})
	},
	"setgid of a file, after chgrp to a foreign group":                func() (string, error) { return setgid(0, true) },
	"setgid of a file, before chgrp to a foreign group":               func() (string, error) { return setgid(0, false) },
	"setgid of a directory, after chgrp to a foreign group":           func() (string, error) { return setgid(fs.ModeDir, true) },
	"setgid of a directory, before chgrp to a foreign group":          func() (string, error) { return setgid(fs.ModeDir, false) },
	"renameat2, exchanging":                                           exchange,
	"mounting a tmpfs":                                                mount,
	"connecting to the kubelet's pod-resources, which are read-only":  connect,
	"writing beside the kubelet's pod-resources, which are read-only": func() (string, error) { return "", os.WriteFile(podResources+"/new", nil, 0600) },
	"writing to the root directory":                                   func() (string, error) { return "", os.WriteFile("/new", nil, 0600) },
}

// on tries something on a new file or directory on the host.
func on(kind fs.FileMode, try func(path string) error) (string, error) {
	dir, err := os.MkdirTemp(hostDir, "probe-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "new")
	if kind.IsDir() {
		err = os.Mkdir(path, 0755)
	} else {
		err = os.WriteFile(path, nil, 0600)
	}
	if err != nil {
		return "", err
	}
	return "", try(path)
}

// setgid says whether the bit is there in the end.
func setgid(kind fs.FileMode, chgrpFirst bool) (note string, err error) {
	_, err = on(kind, func(path string) error {
		steps := []func() error{
			func() error { return unix.Chown(path, -1, foreignGroup) },
			func() error { return unix.Chmod(path, 02750) },
		}
		if !chgrpFirst {
			steps[0], steps[1] = steps[1], steps[0]
		}
		if err := errors.Join(steps[0](), steps[1]()); err != nil {
			return err
		}
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		note = fmt.Sprintf("mode %04o, group %d", st.Mode&07777, st.Gid)
		return err
	})
	return note, err
}

func exchange() (string, error) {
	return on(0, func(path string) error {
		if err := os.WriteFile(path+"er", nil, 0600); err != nil {
			return err
		}
		return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+"er", unix.RENAME_EXCHANGE)
	})
}

func mount() (string, error) {
	return on(fs.ModeDir, func(path string) error { return unix.Mount("tmpfs", path, "tmpfs", 0, "") })
}

func connect() (string, error) {
	conn, err := net.Dial("unix", podResources+"/kubelet.sock")
	if err == nil {
		err = conn.Close()
	}
	return "", err
}

// ownStatus is what the kernel says about this process's rights.
func ownStatus() (map[string]string, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp":
			out[name] = strings.TrimSpace(value)
		}
	}
	return out, nil
}
