package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/token-projector/token-projector/internal/inspect"
	"github.com/token-projector/token-projector/internal/mount"
	"github.com/token-projector/token-projector/projector/atomicdir"
)

// What to do about a mount that does not follow.
const (
	restart = "restart the container: it has its mounts from when it was started"
	noSub   = "mount the volume as a whole, without subPath, and restart the Pod"
)

// view compares what is mounted elsewhere with a volume.
type view struct {
	d            *Doctor
	v            *volume
	p            procfs
	own          []mount.Mount
	device, root string
}

// judge says what one mount of a process is to the volume, and whether it has
// anything to do with it.
func (w view) judge(pid int, m mount.Mount) (Result, bool) {
	// The node's own mounts, and those of who keeps volumes, lie in the layout.
	if m.Point == w.v.path || w.v.pod != "" && strings.Contains(m.Point, "/pods/"+w.v.pod+"/") {
		return Result{}, false
	}
	where := fmt.Sprintf("process %d (%s) at %s", pid, w.p.comm(pid), m.Point)
	from, deleted := strings.CutSuffix(m.Root, "//deleted")
	part, inside := below(from, w.root)
	switch {
	case inside && m.Device == w.device:
		return w.compare(pid, m, where, part, deleted), true
	case w.detached(pid, m):
		return w.v.result(Fail, "container", where+" has a volume that is mounted nowhere on the node any more: its files never change", restart), true
	}
	return Result{}, false
}

// compare compares each token of the volume, or of the part of it that is mounted.
func (w view) compare(pid int, m mount.Mount, where, part string, deleted bool) Result {
	generation, rest, _ := strings.Cut(part, "/")
	sub := part != ""
	switch {
	case deleted && !sub:
		return w.v.result(Fail, "container", where+" has the directory of a volume that was removed since", restart)
	case sub && (deleted || atomicdir.IsGeneration(generation) && generation != w.v.found.Generation):
		return w.v.result(Fail, "container", where+" has files of an earlier generation, by a subPath", noSub)
	}
	for _, f := range w.v.found.Files {
		inMount := f.Path // seen from the mount
		if sub {
			var covered bool
			if inMount, covered = below(f.Path, rest); !covered {
				continue
			}
		}
		if f.Token == nil {
			continue
		}
		if r, bad := w.compareFile(pid, m.Point, inMount, f, where); bad {
			return r
		}
	}
	if sub {
		return w.v.result(Warn, "container", where+" has a part of the volume, by a subPath: it never changes", noSub)
	}
	return w.v.result(OK, "container", where+" has the volume as it is", "")
}

// compareFile compares one file, again if the volume is published meanwhile.
func (w view) compareFile(pid int, point, inMount string, f inspect.File, where string) (Result, bool) {
	process := strconv.Itoa(pid)
	name := path.Join(strings.TrimPrefix(point, "/"), inMount)
	same := func() (same bool, info os.FileInfo, err error) {
		on, err := os.ReadFile(filepath.Join(w.v.path, "..data", f.Path))
		if err != nil {
			return false, nil, err
		}
		in, info, err := readBelow(w.p.path(process, "root"), name)
		return string(in) == string(on), info, err
	}
	equal, info, err := same()
	for range 2 {
		if !equal {
			equal, info, err = same()
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return w.v.result(Skip, "container", where+" can't be looked at by this user", "run it again as root"), true
	case err != nil:
		return w.v.result(Fail, "container", fmt.Sprintf("%s has no %s", where, f.Path), restart), true
	case !equal:
		return w.v.result(Fail, "container", fmt.Sprintf("%s has another token in %s than the node", where, f.Path), restart), true
	}
	uid, gid := owner(info)
	if u, known := w.p.user(pid); known && !u.canRead(uid, gid, info.Mode()) {
		return w.v.result(Fail, "container", fmt.Sprintf("%s runs as user %d, and may not read %s: mode %04o of user %d and group %d",
			where, u.uid, f.Path, info.Mode().Perm(), uid, gid),
			"give the Pod an fsGroup, or all its containers the same runAsUser"), true
	}
	return Result{}, false
}

// detached says whether a process of the Pod has a volume with the same files whose
// file system is mounted nowhere on the node: it was unmounted, and mounted anew. What
// a container could have put there itself is not read.
func (w view) detached(pid int, m mount.Mount) bool {
	if m.Type != "tmpfs" || w.d.PID != pid && !w.p.ofPod(pid, w.v.pod) ||
		slices.ContainsFunc(w.own, func(o mount.Mount) bool { return o.Device == m.Device }) {
		return false
	}
	root, err := os.OpenRoot(w.p.path(strconv.Itoa(pid), "root"))
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }()
	at := strings.TrimPrefix(m.Point, "/")
	generation, err := root.Readlink(path.Join(at, "..data"))
	return err == nil && atomicdir.IsGeneration(generation) && slices.ContainsFunc(w.v.found.Files, func(f inspect.File) bool {
		_, err := root.Lstat(path.Join(at, generation, f.Path))
		return f.Token != nil && err == nil
	})
}

// maxFile is more than any token.
const maxFile = 1 << 20

// readBelow reads a regular file below a container's root directory, and no other,
// wherever links of the container may lead.
func readBelow(dir, name string) ([]byte, os.FileInfo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, info, err
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxFile))
	return content, info, err
}

// locate says which file system a directory is in, and where in it.
func locate(mounts []mount.Mount, dir string) (device, root string) {
	longest := -1
	for _, m := range mounts {
		if rest, inside := below(dir, m.Point); inside && len(m.Point) >= longest { // the last covers those before
			longest, device, root = len(m.Point), m.Device, path.Join(m.Root, rest)
		}
	}
	return device, root
}

// below is a path as seen from a directory, and whether it is in it; from "" and "/"
// all are.
func below(name, dir string) (string, bool) {
	dir = strings.TrimSuffix(dir, "/")
	rest, found := strings.CutPrefix(name, dir)
	if dir != "" && rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), found
}
