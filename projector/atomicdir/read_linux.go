package atomicdir

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
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
	set, _, err := d.readGeneration(root, current)
	return set, err
}

// readGeneration reads a generation. The set is empty if there is none of that
// name; intact is false then, and if it holds something that the writer would
// not have made.
func (d *Dir) readGeneration(root int, name string) (set Set, intact bool, err error) {
	dir, err := openDirIn(root, name)
	if isForeign(err) {
		return Set{}, false, nil
	}
	if err != nil {
		return Set{}, false, fmt.Errorf("opening generation %s: %w", name, err)
	}
	defer closeFD(dir)
	r := reader{dirMode: d.dirMode(), intact: true}
	if err := r.readDir(dir, "", 0); err != nil {
		return Set{}, false, fmt.Errorf("reading generation %s: %w", name, err)
	}
	slices.SortFunc(r.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return Set{Generation: name, Files: r.files}, r.intact, nil
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

// reader collects the files of a generation.
type reader struct {
	dirMode uint32
	files   []File
	intact  bool
}

func (r *reader) readDir(dir int, prefix string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return fmt.Errorf("stat %q: %w", prefix, err)
	}
	if st.Mode&07777 != r.dirMode || depth > maxDepth {
		r.intact = false
	}
	entries, err := list(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := r.readEntry(dir, path.Join(prefix, e.name), e, depth); err != nil {
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
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
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
	data := make([]byte, st.Size)
	n := 0
	for n < len(data) {
		var m int
		err := retry(func() (err error) {
			m, err = unix.Read(fd, data[n:])
			return err
		})
		if err != nil {
			return fmt.Errorf("reading %q: %w", where, err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	r.files = append(r.files, File{
		Path:    where,
		Data:    data[:n],
		Mode:    fs.FileMode(st.Mode & 07777),
		Owner:   &Owner{UID: int(st.Uid), GID: int(st.Gid)},
		ModTime: time.Unix(st.Mtim.Unix()),
	})
	return nil
}
