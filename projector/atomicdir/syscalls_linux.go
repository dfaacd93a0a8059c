package atomicdir

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Flags for opening what lies in a volume: never follow a link, never block on
// a FIFO, never leak into a child.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY

// openVolume opens the volume's directory itself. It may be a mount point, so
// RESOLVE_NO_XDEV can't be used here.
func openVolume(path string) (int, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|openFlags, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("opening volume %s: %w", path, err)
	}
	return fd, nil
}

// openIn opens a single name in dir, without leaving dir's file system.
func openIn(dir int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | openFlags),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat2(dir, name, &how)
		return err
	})
	return fd, err
}

// openDirIn opens a directory in dir.
func openDirIn(dir int, name string) (int, error) {
	return openIn(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// closeFD closes a descriptor. After any error of close(2), EINTR too, the
// descriptor is gone on Linux, so there is nothing to try again; and nothing
// here relies on close to report a failed write.
func closeFD(fd int) { _ = unix.Close(fd) }

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// readLink returns a link's target, or "" if name is no link or does not
// exist.
func readLink(dir int, name string) (string, error) {
	// Longer than any target that the writer makes; a cut-off target is none
	// of ours either way.
	buf := make([]byte, maxName+len(dataLink)+2)
	var n int
	err := retry(func() (err error) {
		n, err = unix.Readlinkat(dir, name, buf)
		return err
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading link %s: %w", name, err)
	}
	return string(buf[:n]), nil
}

// listNames returns the names in an open directory, from its start.
func listNames(dir int) ([]string, error) {
	if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	var names []string
	buf := make([]byte, 8192)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.ReadDirent(dir, buf)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("listing: %w", err)
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// removeEntry removes name from dir, a directory with all that is in it. It
// does not cross a mount: a directory that is one is an error. A name that
// does not exist is none.
func removeEntry(dir int, name string) error {
	err := retry(func() error { return unix.Unlinkat(dir, name, 0) })
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	// Linux says EISDIR; POSIX and some file systems say EPERM.
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	sub, openErr := openDirIn(dir, name)
	if openErr != nil {
		return fmt.Errorf("removing %s: %w", name, openErr)
	}
	err = removeAllIn(sub)
	closeFD(sub)
	if err != nil {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	if err := retry(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) }); err != nil {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}

// removeAllIn empties a directory as far as it can and returns the first error.
func removeAllIn(dir int) error {
	names, first := listNames(dir)
	for _, name := range names {
		if err := removeEntry(dir, name); err != nil && first == nil {
			first = err
		}
	}
	return first
}
