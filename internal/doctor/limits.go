package doctor

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/token-projector/token-projector/internal/names"
)

// limitWarn is the part of a limit from which on it is told.
const limitWarn = 0.8

// limit is one of the kernel's.
type limit struct {
	name      string
	used, max int
	raise     string
}

func (l limit) near() bool { return l.max > 0 && float64(l.used) > limitWarn*float64(l.max) }

// checkLimits looks at what projectord has used up: without inotify it does not
// see that its credential is replaced, without descriptors nothing.
func (d *Doctor) checkLimits() {
	p := procfs(d.Proc)
	pids := p.pids()
	seen := false
	var near []limit
	for _, pid := range pids {
		if p.comm(pid) != names.Daemon {
			continue
		}
		u, known := p.user(pid)
		files, err := os.ReadDir(p.path(strconv.Itoa(pid), "fd"))
		if !known || err != nil {
			continue // not this user's
		}
		seen = true
		instances, watches := p.inotify(pids, u.uid)
		for _, l := range []limit{
			{"open files", len(files), p.maxFiles(pid), "raise its LimitNOFILE"},
			{"inotify instances of its user", instances, p.sysctl("max_user_instances"), "raise the sysctl fs.inotify.max_user_instances, or see who has so many"},
			{"inotify watches of its user", watches, p.sysctl("max_user_watches"), "raise the sysctl fs.inotify.max_user_watches, or see who has so many"},
		} {
			if l.near() {
				near = append(near, l)
			}
		}
	}
	switch {
	case !seen && p.ofHost():
		d.add(Result{Status: Skip, Check: "limits", Text: "no process of projectord is there, or none that this user may look at", Advice: "start it, or run this again as root"})
	case !seen:
		d.add(Result{Status: Skip, Check: "limits", Text: "no process of projectord can be looked at from here", Advice: d.elsewhere()})
	case len(near) > 0:
		for _, l := range near {
			d.add(Result{Status: Warn, Check: "limits", Text: fmt.Sprintf("projectord has %d of %d %s", l.used, l.max, l.name), Advice: l.raise})
		}
	default:
		d.add(Result{Status: OK, Check: "limits", Text: "projectord is far from those on open files and inotify"})
	}
}

// sysctl reads one of fs.inotify; 0 is not known.
func (p procfs) sysctl(name string) int {
	text, _ := os.ReadFile(p.path("sys", "fs", "inotify", name))
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// maxFiles is the soft limit on a process's open files; 0 is none.
func (p procfs) maxFiles(pid int) int {
	text, _ := os.ReadFile(p.path(strconv.Itoa(pid), "limits"))
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), "Max open files"); found {
			soft, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			n, _ := strconv.Atoi(soft) // "unlimited" is none
			return n
		}
	}
	return 0
}

// inotify counts what all processes of a user have: its limits are of the user.
func (p procfs) inotify(pids []int, uid int) (instances, watches int) {
	for _, pid := range pids {
		if u, known := p.user(pid); !known || u.uid != uid {
			continue
		}
		id := strconv.Itoa(pid)
		files, _ := os.ReadDir(p.path(id, "fd"))
		for _, f := range files {
			if to, _ := os.Readlink(p.path(id, "fd", f.Name())); to != "anon_inode:inotify" {
				continue
			}
			instances++
			info, _ := os.ReadFile(p.path(id, "fdinfo", f.Name()))
			watches += strings.Count("\n"+string(info), "\ninotify wd:")
		}
	}
	return instances, watches
}
