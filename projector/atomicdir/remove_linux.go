package atomicdir

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// unlink removes a name that is no directory.
func unlink(dir int, name string) error {
	return retry(func() error { return unix.Unlinkat(dir, name, 0) })
}

// rmdir removes an empty directory.
func rmdir(dir int, name string) error {
	return retry(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
}

// remove removes name from dir, which is root or lies in it: a file, a link or
// a directory with all that is in it. It does not cross a mount: a directory
// that is one is an error. A name that does not exist is none. It goes on after
// an error and returns the first.
//
// A tree may be deeper than a process has descriptors or a stack has frames, so
// nothing here descends: a directory that is not empty is moved to root, under
// the name of a generation, and emptied there. After a crash it is one of the
// leftovers that the next Publish removes; so is what is left of a tree of more
// than maxRemoved directories, which a workload may be making as fast as it is
// removed.
func remove(root, dir int, name string) error {
	moved, first := removeOrMove(root, dir, name)
	for removed := 0; len(moved) > 0; removed++ {
		if removed == maxRemoved {
			return fmt.Errorf("removing %s: stopped after %d directories, the rest is for the next time", name, removed)
		}
		next := moved[len(moved)-1]
		moved = moved[:len(moved)-1]
		more, err := empty(root, next)
		moved = append(moved, more...)
		if err == nil {
			err = rmdir(root, next)
		}
		if err != nil && first == nil {
			first = fmt.Errorf("removing %s: %w", next, err)
		}
	}
	return first
}

// maxRemoved bounds the directories that one call removes.
const maxRemoved = 10_000

// setAside takes name out of the way at once, whatever it is: a directory that
// is not empty becomes one of the leftovers that clean removes.
func setAside(root int, name string) error {
	moved, err := removeOrMove(root, root, name)
	if err != nil || len(moved) == 0 {
		return err
	}
	err = retry(func() error { return unix.Renameat(root, name, root, newGeneration(time.Now())) })
	if err != nil {
		return fmt.Errorf("moving %s out of the way: %w", name, err)
	}
	return nil
}

// removeOrMove removes name from dir, or has it lie in root as moved.
func removeOrMove(root, dir int, name string) (moved []string, err error) {
	err = unlink(dir, name)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	// Linux says EISDIR; POSIX and some file systems say EPERM.
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = rmdir(dir, name)
	}
	switch {
	case err == nil:
		return nil, nil
	case !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST):
		return nil, fmt.Errorf("removing %s: %w", name, err)
	case dir == root:
		return []string{name}, nil
	}
	up := newGeneration(time.Now())
	if err := retry(func() error { return unix.Renameat(dir, name, root, up) }); err != nil {
		return nil, fmt.Errorf("moving %s to remove it: %w", name, err)
	}
	return []string{up}, nil
}

// empty removes what is in a directory in root, or has it lie in root as moved.
func empty(root int, name string) (moved []string, first error) {
	dir, err := openDirIn(root, name)
	if err != nil {
		return nil, err
	}
	defer closeFD(dir)
	entries, first := list(dir)
	for _, e := range entries {
		more, err := removeOrMove(root, dir, e.name)
		moved = append(moved, more...)
		if err != nil && first == nil {
			first = err
		}
	}
	return moved, first
}
