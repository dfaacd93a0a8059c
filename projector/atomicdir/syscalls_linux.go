package atomicdir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

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
		if err := call(); err == nil || !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// stat says what an open file or directory is.
func stat(fd int) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

// entry is a name in a directory.
type entry struct {
	name string
	kind byte // unix.DT_REG and so on; DT_UNKNOWN where the file system doesn't say
}

// list returns what is in a directory that has not been listed through this
// descriptor before: all of it, or maxEntries of it and a little more.
func list(dir int) ([]entry, error) {
	entries := make([]entry, 0, 8)
	var buf [1024]byte
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.ReadDirent(dir, buf[:])
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("listing: %w", err)
		}
		if n == 0 || len(entries) >= maxEntries { // a short answer is not the end
			return entries, nil
		}
		// struct linux_dirent64, getdents64(2): u64 inode, s64 offset, u16
		// length, u8 type, name with a NUL. All names share one string.
		text := string(buf[:n])
		for at := 0; at < n; {
			length := int(binary.NativeEndian.Uint16(buf[at+16:]))
			name, _, _ := strings.Cut(text[at+19:at+length], "\x00")
			if name != "." && name != ".." {
				entries = append(entries, entry{name: name, kind: buf[at+18]})
			}
			at += length
		}
	}
}

// relist is list for a directory that was listed before, or will be again.
func relist(dir int) ([]entry, error) {
	rewind := func() error {
		_, err := unix.Seek(dir, 0, unix.SEEK_SET)
		return err
	}
	if err := retry(rewind); err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	entries, err := list(dir)
	if seekErr := retry(rewind); err == nil && seekErr != nil {
		err = fmt.Errorf("listing: %w", seekErr)
	}
	return entries, err
}

// syncFD writes a file or a directory to the disk.
func syncFD(fd int) error { return retry(func() error { return unix.Fsync(fd) }) }
