package atomicdir

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep the reader follows directories; no valid path is deeper.
const maxDepth = (maxPath + 1) / 2

// Read returns the published set. It is empty, without an error, if nothing
// whole has been published. Files that Publish would not have written are left
// out; more than it would is an error.
func (d *Dir) Read() (Set, error) {
	root, err := openVolume(d.path)
	if err != nil {
		return Set{}, err
	}
	defer closeFD(root)
	current, err := currentGeneration(root)
	if err != nil || current == "" {
		return Set{}, err
	}
	var files []File
	r := reader{dir: d, visit: func(f File) bool {
		if clean, err := cleanPath(f.Path); err != nil || clean != f.Path {
			return true
		}
		f.Data = bytes.Clone(f.Data)
		f.Owner = &Owner{UID: f.Owner.UID, GID: f.Owner.GID}
		files = append(files, f)
		return true
	}}
	found, err := r.readGeneration(root, current)
	if err != nil || !found {
		return Set{}, err
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return Set{Generation: current, Files: files}, nil
}

// holds says whether a generation is exactly what is wanted, and whether there
// is one of that name at all. It looks no further than the first difference.
func (d *Dir) holds(root int, name string, want []File) (found, equal bool, err error) {
	matched := 0
	r := reader{dir: d, strict: true, want: want, visit: func(f File) bool {
		i, ok := findFile(want, f.Path)
		matched++
		return ok && d.same(f, want[i])
	}}
	found, err = r.readGeneration(root, name)
	if errors.Is(err, errDiffers) {
		return found, false, nil
	}
	return found, err == nil && found && matched == len(want), err
}

// findFile looks for a path in a sorted set, or for where it would be.
func findFile(files []File, path string) (int, bool) {
	return slices.BinarySearchFunc(files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
}

// same compares a file on disk with what is wanted of it. A group that is not
// wanted in particular is the volume's; where that has none, any will do.
func (d *Dir) same(have, want File) bool {
	owner := d.owner(want)
	if owner.GID < 0 {
		owner.GID = d.group
	}
	return have.Mode == want.Mode && have.Owner.UID == owner.UID &&
		(owner.GID < 0 || have.Owner.GID == owner.GID) && bytes.Equal(have.Data, want.Data)
}

// isForeign tells "this can't be compared for ever" from "it can't be read
// now", such as EMFILE or EIO, which is an error and no reason to rewrite. Files
// that were given away can't be read by a process without CAP_DAC_OVERRIDE.
func isForeign(err error) bool {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.ENXIO, unix.EACCES, unix.EPERM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// reader walks over a generation.
type reader struct {
	dir   *Dir
	visit func(File) bool // its Data and Owner are good until it returns
	// strict compares with want, a sorted set: the first thing that has no place
	// in it ends the walk.
	strict bool
	want   []File

	entries, size int // seen so far
	data          []byte
	owner         Owner
}

// errDiffers ends a walk at the first difference.
var errDiffers = errors.New("it is not what is wanted")

// readGeneration gives each regular file of a generation to visit. found is
// false if there is no such generation.
func (r *reader) readGeneration(root int, name string) (found bool, err error) {
	dir, err := openDirIn(root, name)
	if isForeign(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening generation %s: %w", name, err)
	}
	defer closeFD(dir)
	if err := r.readDir(dir, "", 0); err != nil {
		return true, fmt.Errorf("reading generation %s: %w", name, err)
	}
	return true, nil
}

// unwanted is for what the writer would not have made.
func (r *reader) unwanted() error {
	if r.strict {
		return errDiffers
	}
	return nil
}

func (r *reader) readDir(dir int, where string, depth int) error {
	st, err := stat(dir)
	if err != nil {
		return fmt.Errorf("stat %q: %w", where, err)
	}
	group := r.dir.group < 0 || int(st.Gid) == r.dir.group
	if st.Mode&07777 != r.dir.dirMode() || int(st.Uid) != r.dir.user || !group || depth > maxDepth || !r.wantsDir(where) {
		if err := r.unwanted(); err != nil || depth > maxDepth {
			return err
		}
	}
	entries, err := list(dir)
	if err != nil {
		return err
	}
	if r.entries += len(entries); r.entries > maxEntries && !r.strict {
		return fmt.Errorf("it has more than %d names in it", maxEntries)
	}
	for _, e := range entries {
		inside := e.name
		if where != "" {
			inside = where + "/" + e.name
		}
		if err := r.readEntry(dir, inside, e, depth); err != nil {
			return err
		}
	}
	return nil
}

// wantsDir says whether a wanted file lies below a directory.
func (r *reader) wantsDir(where string) bool {
	if where == "" || !r.strict {
		return true
	}
	i, _ := findFile(r.want, where+"/")
	return i < len(r.want) && strings.HasPrefix(r.want[i].Path, where+"/")
}

func (r *reader) readEntry(dir int, where string, e entry, depth int) error {
	kind := e.kind
	if kind == unix.DT_UNKNOWN { // a file system whose listings don't say
		var st unix.Stat_t
		err := retry(func() error { return unix.Fstatat(dir, e.name, &st, unix.AT_SYMLINK_NOFOLLOW) })
		if err != nil && !isForeign(err) {
			return fmt.Errorf("stat %q: %w", where, err)
		}
		kind = byte(st.Mode & unix.S_IFMT >> 12)
	}
	if kind != unix.DT_REG && kind != unix.DT_DIR { // opening a device may do something
		return r.unwanted()
	}
	fd, err := openIn(dir, e.name, unix.O_RDONLY, 0)
	if isForeign(err) || r.strict && errors.Is(err, unix.EAGAIN) { // somebody has a lease on it
		return r.unwanted()
	}
	if err != nil {
		return fmt.Errorf("opening %q: %w", where, err)
	}
	defer closeFD(fd)
	if kind == unix.DT_DIR {
		return r.readDir(fd, where, depth+1)
	}
	return r.readFile(fd, where)
}

func (r *reader) readFile(fd int, where string) error {
	st, err := stat(fd)
	if err != nil {
		return fmt.Errorf("stat %q: %w", where, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG: // it was exchanged
		return r.unwanted()
	case st.Nlink != 1: // somebody else may write into it by its other name
		if err := r.unwanted(); err != nil {
			return err
		}
	}
	if r.size += int(min(st.Size, MaxSize+1)); r.size > MaxSize {
		return cmp.Or(r.unwanted(), fmt.Errorf("it has more than %d bytes in it", MaxSize))
	}
	if err := r.readData(fd, int(st.Size)); err != nil {
		return fmt.Errorf("reading %q: %w", where, err)
	}
	r.owner = Owner{UID: int(st.Uid), GID: int(st.Gid)}
	if !r.visit(File{
		Path: where, Data: r.data, Mode: fs.FileMode(st.Mode & 07777), Owner: &r.owner, ModTime: time.Unix(st.Mtim.Unix()),
	}) {
		return errDiffers
	}
	return nil
}

// readData reads a file of some size; one that has become shorter gives less.
func (r *reader) readData(fd, size int) error {
	r.data = slices.Grow(r.data[:0], size)
	for len(r.data) < size {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Read(fd, r.data[len(r.data):size])
			return err
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		r.data = r.data[:len(r.data)+n]
	}
	return nil
}
