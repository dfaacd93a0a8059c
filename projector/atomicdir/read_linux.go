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
	set, _, err := d.readCurrent(root)
	return set, err
}

// readCurrent reads the generation that "..data" names. intact is false if
// there is none, or if it holds something that the writer would not have made.
func (d *Dir) readCurrent(root int) (set Set, intact bool, err error) {
	name, err := readLink(root, dataLink)
	if err != nil {
		return Set{}, false, err
	}
	if !IsGeneration(name) {
		return Set{}, false, nil
	}
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
	names, err := listNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.readEntry(dir, path.Join(prefix, name), name, depth); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) readEntry(dir int, where, name string, depth int) error {
	// Look before opening: opening a device may do something.
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	kind := st.Mode & unix.S_IFMT
	if isForeign(err) || err == nil && kind != unix.S_IFREG && kind != unix.S_IFDIR || depth > maxDepth {
		r.intact = false
		return nil
	}
	if err != nil {
		return fmt.Errorf("stat %q: %w", where, err)
	}
	fd, err := openIn(dir, name, unix.O_RDONLY, 0)
	if isForeign(err) {
		r.intact = false
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening %q: %w", where, err)
	}
	defer closeFD(fd)
	if kind == unix.S_IFDIR {
		return r.readDir(fd, where, depth+1)
	}
	return r.readFile(fd, where)
}

func (r *reader) readFile(fd int, where string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %q: %w", where, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxFileSize {
		r.intact = false
		return nil
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
