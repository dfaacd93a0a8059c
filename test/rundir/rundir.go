// Package rundir makes the directories of programs that run for a while, and
// removes those that killed ones have left.
package rundir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// New makes a directory, whose name begins with prefix, in the place for
// temporary files and locks it until unlock is called or this process ends.
// Directories of the same prefix that nobody has locked were left by killed
// processes: they are removed once clean has removed what belongs to each. What
// can't be removed is left.
func New(prefix string, clean func(dir string) error) (dir string, unlock func(), err error) {
	// One at a time, so that nobody sweeps a directory away before it is locked.
	turn, err := lock(os.TempDir(), syscall.LOCK_EX)
	if err != nil {
		return "", nil, err
	}
	defer turn()
	sweep(prefix, clean)
	if dir, err = os.MkdirTemp("", prefix); err != nil {
		return "", nil, err
	}
	if unlock, err = lock(dir, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, unlock, nil
}

func sweep(prefix string, clean func(dir string) error) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		unlock, err := lock(dir, syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue
		}
		if clean(dir) == nil {
			_ = os.RemoveAll(dir)
		}
		unlock()
	}
}

func lock(dir string, how int) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() { _ = f.Close() }, nil
}
