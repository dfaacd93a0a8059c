package atomicdir

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// makeGeneration makes a directory of a new name, closed to others.
func makeGeneration(root int) (name string, fd int, err error) {
	for {
		name = newGeneration(time.Now())
		err = retry(func() error { return unix.Mkdirat(root, name, 0700) })
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return "", -1, fmt.Errorf("making generation %s: %w", name, err)
		}
		if fd, err = openDirIn(root, name); err != nil {
			_ = remove(root, root, name)
			return "", -1, fmt.Errorf("opening generation %s: %w", name, err)
		}
		return name, fd, nil
	}
}

// fill writes all files into a generation, and opens it to others.
func (d *Dir) fill(dir int, name string, files []File) error {
	for _, f := range files {
		if err := d.writeFile(dir, f); err != nil {
			return fmt.Errorf("writing %q: %w", f.Path, err)
		}
	}
	if err := d.setDirMode(dir, d.dirMode()); err != nil {
		return fmt.Errorf("setting the mode of generation %s: %w", name, err)
	}
	if !d.sync {
		return nil
	}
	if err := syncDirs(dir, files); err != nil {
		return fmt.Errorf("syncing generation %s: %w", name, err)
	}
	return nil
}

// syncDirs syncs a generation's directories.
func syncDirs(generation int, files []File) error {
	last := "."
	for _, f := range files {
		for parent := path.Dir(f.Path); parent != "." && parent != last; parent = path.Dir(parent) {
			fd, err := openDirIn(generation, parent)
			if err != nil {
				return err
			}
			err = syncFD(fd)
			closeFD(fd)
			if err != nil {
				return err
			}
		}
		last = path.Dir(f.Path)
	}
	return syncFD(generation)
}

// writeFile makes f and the directories above it in a generation.
func (d *Dir) writeFile(generation int, f File) error {
	dir, name := generation, path.Base(f.Path)
	if parent := path.Dir(f.Path); parent != "." {
		for element := range strings.SplitSeq(parent, "/") {
			sub, err := d.makeDir(dir, element)
			if dir != generation {
				closeFD(dir)
			}
			if err != nil {
				return err
			}
			dir = sub
		}
		defer closeFD(dir)
	}
	// Closed to others until the owner and the mode are right.
	fd, err := openIn(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0600)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	for data := f.Data; len(data) > 0; {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Write(fd, data)
			return err
		})
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if f.Owner != nil {
		if err := retry(func() error { return unix.Fchown(fd, f.Owner.UID, f.Owner.GID) }); err != nil {
			return fmt.Errorf("setting the owner: %w", err)
		}
	}
	if err := retry(func() error { return unix.Fchmod(fd, uint32(f.Mode.Perm())) }); err != nil {
		return fmt.Errorf("setting the mode: %w", err)
	}
	if !f.ModTime.IsZero() {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(f.ModTime.UnixNano())}
		if err := retry(func() error { return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH) }); err != nil {
			return fmt.Errorf("setting the time: %w", err)
		}
	}
	if d.sync {
		if err := syncFD(fd); err != nil {
			return fmt.Errorf("syncing: %w", err)
		}
	}
	return nil
}

// makeDir makes a directory in a generation, or opens the one that an earlier
// file of the same set needed.
func (d *Dir) makeDir(dir int, name string) (int, error) {
	err := retry(func() error { return unix.Mkdirat(dir, name, 0700) })
	made := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, fmt.Errorf("making directory %q: %w", name, err)
	}
	fd, err := openDirIn(dir, name)
	if err != nil {
		return -1, fmt.Errorf("opening directory %q: %w", name, err)
	}
	if made {
		if err := d.setDirMode(fd, d.dirMode()); err != nil {
			closeFD(fd)
			return -1, fmt.Errorf("setting the mode of directory %q: %w", name, err)
		}
	}
	return fd, nil
}
