// Package rootlock makes sure that one process serves a root directory.
//
// The lock is the kernel's and ends with the process, however that ends; the
// file's content only says who holds it.
package rootlock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileName is the lock's name in the root directory.
const fileName = "projectord.lock"

// pollInterval is how often a lock that is held is tried again; flock(2) can't
// wait and listen to a context.
const pollInterval = 100 * time.Millisecond

// Lock is a held lock. Make it with Acquire.
type Lock struct{ file *os.File }

// Acquire makes the root directory, if need be, and takes its lock. It tries
// until ctx ends and then returns an error that says what is in the way: the
// process that holds the lock, or why the directory can't be written. waiting
// is told the same if the first attempt fails.
func Acquire(ctx context.Context, root string, waiting func(error)) (*Lock, error) {
	for first := true; ; first = false {
		lock, err := try(root)
		if err == nil {
			return lock, nil
		}
		if first {
			waiting(err)
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Exists says whether a process has ever locked the root directory.
func Exists(root string) (bool, error) {
	_, err := os.Lstat(filepath.Join(root, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func try(root string) (*Lock, error) {
	if err := os.MkdirAll(root, 0750); err != nil {
		return nil, fmt.Errorf("making the root directory (--root-dir): %w", err)
	}
	path := filepath.Join(root, fileName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0640)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the root directory (--root-dir): %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("root directory %s is already served by %s: stop that process, or use another --root-dir", root, holder(file))
	}
	if err == nil {
		err = sign(file)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Lock{file: file}, nil
}

// holder reads who holds the lock, as far as they said.
func holder(file *os.File) string {
	buf := make([]byte, 256)
	n, _ := file.ReadAt(buf, 0)
	if text := strings.TrimSpace(string(buf[:n])); text != "" {
		return text
	}
	return "another process"
}

// sign writes who holds the lock.
func sign(file *os.File) error {
	text := fmt.Sprintf("process %d (%s) since %s\n", os.Getpid(), filepath.Base(os.Args[0]), time.Now().UTC().Format(time.RFC3339))
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("writing the lock of the root directory: %w", err)
	}
	if _, err := file.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("writing the lock of the root directory: %w", err)
	}
	return nil
}

// Remove removes the root directory with the lock, which must be all that is in
// it, and releases the lock.
func (l *Lock) Remove() error {
	err := os.Remove(l.file.Name())
	if err == nil {
		err = os.Remove(filepath.Dir(l.file.Name()))
	}
	return errors.Join(err, l.Release())
}

// Release gives the lock back. The file stays: removing it would let two
// processes hold locks on two files of the same name.
func (l *Lock) Release() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("releasing the lock of the root directory: %w", err)
	}
	return nil
}
