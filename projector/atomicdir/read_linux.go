package atomicdir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxFileSize is more than any API object holds. A file beyond it is not what
// was published.
const maxFileSize = 4 << 20

// maxDepth is how deep the reader follows directories; no valid path is deeper.
const maxDepth = (maxPath + 1) / 2

// Read returns the published set. It is empty, without an error, if nothing
// whole has been published. Files that are not regular are left out.
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
	found, _, err := d.readGeneration(root, current, func(f File) bool {
		f.Data = bytes.Clone(f.Data)
		f.Owner = &Owner{UID: f.Owner.UID, GID: f.Owner.GID}
		files = append(files, f)
		return true
	})
	if err != nil || !found {
		return Set{}, err
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return Set{Generation: current, Files: files}, nil
}

// holds says whether a generation is what is wanted, and whether there is one
// of that name at all. It reads no further than the first difference.
func (d *Dir) holds(root int, name string, want []File) (found, equal bool, err error) {
	matched := 0
	found, intact, err := d.readGeneration(root, name, func(f File) bool {
		i, ok := slices.BinarySearchFunc(want, f.Path, func(w File, p string) int { return strings.Compare(w.Path, p) })
		if !ok || !d.same(f, want[i]) {
			return false
		}
		matched++
		return true
	})
	return found, intact && matched == len(want), err
}

// same compares a file on disk with what is wanted of it. A user or group that
// is not wanted in particular is the process's and, where one is set, the
// volume's.
func (d *Dir) same(have, want File) bool {
	if have.Mode != want.Mode || !bytes.Equal(have.Data, want.Data) {
		return false
	}
	owner := Owner{UID: -1, GID: -1}
	if want.Owner != nil {
		owner = *want.Owner
	}
	if owner.UID < 0 {
		owner.UID = d.user
	}
	if owner.GID < 0 {
		owner.GID = d.group
	}
	return owner.UID == have.Owner.UID && (owner.GID < 0 || owner.GID == have.Owner.GID)
}

// readGeneration gives each regular file of a generation to visit, until that
// returns false. The file's Data and Owner are good until visit returns. found
// is false if there is no such generation; intact is false then, if visit
// stopped, and if there is something that the writer would not have made.
func (d *Dir) readGeneration(root int, name string, visit func(File) bool) (found, intact bool, err error) {
	dir, err := openDirIn(root, name)
	if isForeign(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("opening generation %s: %w", name, err)
	}
	defer closeFD(dir)
	r := reader{dirMode: d.dirMode(), user: d.user, intact: true, visit: visit}
	if err := r.readDir(dir, "", 0); err != nil && !errors.Is(err, errStopped) {
		return true, false, fmt.Errorf("reading generation %s: %w", name, err)
	}
	return true, r.intact, nil
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
	dirMode uint32
	user    int
	visit   func(File) bool
	intact  bool

	data  []byte // of the file that is visited
	owner Owner
}

// errStopped ends a walk that visit has seen enough of.
var errStopped = errors.New("stopped")

func (r *reader) readDir(dir int, prefix string, depth int) error {
	st, err := stat(dir)
	if err != nil {
		return fmt.Errorf("stat %q: %w", prefix, err)
	}
	if st.Mode&07777 != r.dirMode || int(st.Uid) != r.user || depth > maxDepth {
		r.intact = false
	}
	entries, err := list(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		where := e.name
		if prefix != "" {
			where = prefix + "/" + e.name
		}
		if err := r.readEntry(dir, where, e, depth); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) readEntry(dir int, where string, e entry, depth int) error {
	// Opening a device may do something, so it is not even tried. On a file
	// system whose listings don't say, nothing but the flags protects.
	file := e.kind == unix.DT_REG || e.kind == unix.DT_UNKNOWN
	if !file && e.kind != unix.DT_DIR || depth > maxDepth {
		r.intact = false
		return nil
	}
	fd, err := openIn(dir, e.name, unix.O_RDONLY, 0)
	if isForeign(err) {
		r.intact = false
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening %q: %w", where, err)
	}
	defer closeFD(fd)
	if e.kind == unix.DT_DIR {
		return r.readDir(fd, where, depth+1)
	}
	return r.readFile(fd, where, depth)
}

func (r *reader) readFile(fd int, where string, depth int) error {
	st, err := stat(fd)
	if err != nil {
		return fmt.Errorf("stat %q: %w", where, err)
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR: // the listing didn't say, or it was exchanged
		return r.readDir(fd, where, depth+1)
	case kind != unix.S_IFREG, st.Size > maxFileSize:
		r.intact = false
		return nil
	case st.Nlink != 1: // somebody else may write into it by its other name
		r.intact = false
	}
	if err := r.readData(fd, int(st.Size)); err != nil {
		return fmt.Errorf("reading %q: %w", where, err)
	}
	r.owner = Owner{UID: int(st.Uid), GID: int(st.Gid)}
	f := File{
		Path: where, Data: r.data, Mode: fs.FileMode(st.Mode & 07777), Owner: &r.owner, ModTime: time.Unix(st.Mtim.Unix()),
	}
	if !r.visit(f) {
		r.intact = false
		return errStopped
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
