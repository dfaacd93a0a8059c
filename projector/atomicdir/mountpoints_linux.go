package atomicdir

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// makeMountPoints makes the directories that others mount on. One whose name is
// a file's, or a file's directory's, is left to that. It goes on after an error
// and returns the first.
func (d *Dir) makeMountPoints(root int, top []string) (first error) {
	for _, p := range d.mountPoints {
		clean, err := cleanPath(p)
		if err == nil {
			if _, taken := slices.BinarySearch(top, topLevel(clean)); !taken {
				err = d.makeMountPoint(root, clean)
			}
		}
		if err != nil && first == nil {
			first = fmt.Errorf("making mount point %q: %w", p, err)
		}
	}
	return first
}

func (d *Dir) makeMountPoint(root int, p string) error {
	parent := root
	for element := range strings.SplitSeq(path.Dir(p), "/") {
		if element == "." {
			break
		}
		sub, err := d.makeDir(parent, element)
		if parent != root {
			closeFD(parent)
		}
		if err != nil {
			return err
		}
		parent = sub
	}
	if parent != root {
		defer closeFD(parent)
	}
	// The last one may be mounted on, so it is not opened to see.
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(parent, path.Base(p), &st, unix.AT_SYMLINK_NOFOLLOW) }); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	fd, err := d.makeDir(parent, path.Base(p))
	if err != nil {
		return err
	}
	closeFD(fd)
	return nil
}
