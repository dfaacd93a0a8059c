// Package rootlock makes sure that one process serves a root directory: projectord,
// or another program that embeds it. It neither makes nor looks at volumes.
//
// The lock is the kernel's and ends with the process, however that ends; the
// file's content only says who holds it. It works on Linux only.
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

// Timeout is how long to wait for a process that is about to end, and long enough
// for the old one to end in a rolling update.
const Timeout = 30 * time.Second

// pollInterval is how often a lock that is held is tried again; flock(2) can't
// wait and listen to a context.
const pollInterval = 100 * time.Millisecond

// Lock is a held lock. Make it with Acquire. Its methods must not be called concurrently.
type Lock struct{ file *os.File }

// Acquire makes the root directory, if need be, and takes its lock. It tries
// until ctx ends and then returns ctx's error and what is in the way: the
// process that holds the lock, or why the directory can't be written. waiting,
// unless nil, is told the same if the first attempt fails.
func Acquire(ctx context.Context, root string, waiting func(error)) (*Lock, error) {
	for first := true; ; first = false {
		lock, err := try(root)
		if err == nil {
			return lock, nil
		}
		if first && waiting != nil {
			waiting(err)
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (%w)", err, ctx.Err())
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
		err = stillThere(file, path)
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

// stillThere says whether the file that was locked is the one that others find:
// somebody may have removed it just before; see Remove.
func stillThere(file *os.File, path string) error {
	locked, err := file.Stat()
	if err != nil {
		return fmt.Errorf("looking at the lock of the root directory: %w", err)
	}
	if found, err := os.Lstat(path); err != nil || !os.SameFile(locked, found) {
		return errors.New("the lock of the root directory was removed by another process just now")
	}
	return nil
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

// Remove removes the root directory with the lock, and releases the lock. If
// anything else is in the directory, or it can't be removed, the lock's file stays
// as the sign that it is projectord's.
func (l *Lock) Remove() error {
	return errors.Join(l.remove(), l.Release())
}

func (l *Lock) remove() error {
	root := l.Root()
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != fileName {
			return fmt.Errorf("%s is not projectord's: remove it, or move it away", filepath.Join(root, e.Name()))
		}
	}
	if err := os.Remove(l.file.Name()); err != nil {
		return err
	}
	err = os.Remove(root)
	if err != nil { // a mount point, say
		err = errors.Join(err, os.WriteFile(l.file.Name(), nil, 0640))
	}
	return err
}

// Root is the root directory.
func (l *Lock) Root() string { return filepath.Dir(l.file.Name()) }

// Release gives the lock back. The file stays: removing it would let two
// processes hold locks on two files of the same name.
func (l *Lock) Release() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("releasing the lock of the root directory: %w", err)
	}
	return nil
}
