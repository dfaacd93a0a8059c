package doctor

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/token-projector/token-projector/internal/mount"
)

// procfs reads proc(5). What can't be read is as if it were not there: processes end
// at any time.
type procfs string

func (p procfs) path(parts ...string) string {
	return filepath.Join(append([]string{string(p)}, parts...)...)
}

// initialPIDNamespace is the one that the kernel makes at boot, which on a node is the
// host's (include/linux/proc_ns.h).
const initialPIDNamespace = "pid:[4026531836]"

// ofHost says whether all processes of the node can be seen.
func (p procfs) ofHost() bool {
	ns, err := os.Readlink(p.path("self", "ns", "pid"))
	return err == nil && ns == initialPIDNamespace
}

// pids are those of all processes, in their order.
func (p procfs) pids() []int {
	entries, _ := os.ReadDir(string(p))
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func (p procfs) comm(pid int) string {
	text, _ := os.ReadFile(p.path(strconv.Itoa(pid), "comm"))
	return strings.TrimSpace(string(text))
}

// mounts are what a process has mounted.
func (p procfs) mounts(process string) ([]mount.Mount, error) {
	text, err := os.ReadFile(p.path(process, "mountinfo"))
	return mount.Parse(text), err
}

// mountNamespace names the mounts of a process; those that have the same share them.
func (p procfs) mountNamespace(process string) string {
	ns, _ := os.Readlink(p.path(process, "ns", "mnt"))
	return ns
}

// ofPod says whether a process is of a Pod, by its cgroup. systemd's driver writes
// the UID with underscores (pkg/kubelet/cm/cgroup_manager_linux.go).
func (p procfs) ofPod(pid int, uid string) bool {
	text, err := os.ReadFile(p.path(strconv.Itoa(pid), "cgroup"))
	return err == nil && uid != "" &&
		(bytes.Contains(text, []byte("pod"+uid)) || bytes.Contains(text, []byte("pod"+strings.ReplaceAll(uid, "-", "_"))))
}

// user is whom a process runs as.
type user struct {
	uid, gid int
	groups   []int
	reads    bool // whatever the mode
}

// CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which no mode matters
// (include/uapi/linux/capability.h).
const readsAll = 1<<1 | 1<<2

// user reads a process's effective user and groups, as they are to this process.
func (p procfs) user(pid int) (u user, known bool) {
	text, err := os.ReadFile(p.path(strconv.Itoa(pid), "status"))
	if err != nil {
		return user{}, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(value)
		number := func(i int) int {
			if i >= len(fields) {
				return -1
			}
			n, _ := strconv.Atoi(fields[i])
			return n
		}
		switch name { // real, effective, saved, file system
		case "Uid":
			u.uid, known = number(1), true
		case "Gid":
			u.gid = number(1)
		case "Groups":
			for i := range fields {
				u.groups = append(u.groups, number(i))
			}
		case "CapEff":
			caps, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			u.reads = caps&readsAll != 0
		}
	}
	return u, known
}

// canRead says whether the user may read a file with this owner and mode.
func (u user) canRead(uid, gid int, mode os.FileMode) bool {
	switch {
	case u.reads:
		return true
	case u.uid == uid:
		return mode&0400 != 0
	case u.gid == gid || slices.Contains(u.groups, gid):
		return mode&0040 != 0
	}
	return mode&0004 != 0
}
