package atomicdir

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// makeMountPoints makes the directories that others mount on. One that is there
// wins over a file of the same name, as with the kubelet: to replace it would
// take the mount away from a container that runs. So does a file that is
// published win over a mount that comes later, with an ephemeral container:
// somebody reads it. It goes on after an error and returns the first.
func (d *Dir) makeMountPoints(root int) (first error) {
	for _, p := range d.mountPoints {
		clean, err := cleanPath(p)
		if err == nil {
			err = notPublished(root, topLevel(clean))
		}
		if err == nil {
			err = d.makeMountPoint(root, clean)
		}
		if err != nil && first == nil {
			first = fmt.Errorf("making mount point %q: %w", p, err)
		}
	}
	return first
}

// notPublished says that a file lies where a mount point, or a directory above
// it, should be.
func notPublished(root int, name string) error {
	link, err := isUserLink(root, name)
	if err == nil && link {
		err = fmt.Errorf("%q is published in its place; mount somewhere else", name)
	}
	return err
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
