// Package mount puts a tmpfs on a volume's directory and takes it away.
//
// It knows nothing of what the volume holds.
package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Tmpfs mounts file systems in memory. It may be used by many goroutines, for
// different paths. The zero value mounts without a size limit.
type Tmpfs struct {
	// Size is the limit of each mount in bytes; 0 is the kernel's default,
	// half of the machine's memory.
	Size int64

	noNoswap atomic.Bool // the kernel has said that it lacks noswap
}

// Source is what our mounts are of, as /proc/self/mountinfo has it.
const Source = "projectord"

// flags are stricter than the kubelet's: nothing in a volume of credentials is
// a program or a device.
const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// inodes of each mount. The kernel's default grows with the machine's memory,
// and an inode costs about 1 KiB of it that the size does not limit. It is
// enough for three sets of the most files that can be published.
const inodes = 32768

// Ensure mounts a tmpfs on the directory at path, unless one is mounted there
// already. Where the kernel has it (6.4), what is in it is never swapped to
// disk. Calls for one path must not overlap.
func (t *Tmpfs) Ensure(path string) error {
	mounted, err := IsMountPoint(path)
	if err != nil || mounted {
		return err
	}
	options := fmt.Sprintf("mode=1777,nr_inodes=%d", inodes)
	if t.Size > 0 {
		options += fmt.Sprintf(",size=%d", t.Size)
	}
	if !t.noNoswap.Load() {
		err := unix.Mount(Source, path, "tmpfs", flags, options+",noswap")
		if !errors.Is(err, unix.EINVAL) {
			return wrap("mounting a tmpfs", path, err)
		}
		t.noNoswap.Store(true)
	}
	return wrap("mounting a tmpfs", path, unix.Mount(Source, path, "tmpfs", flags, options))
}

// probe is always the same name, so that a crash leaves one at most.
const probe = ".mount-probe"

// RemoveProbe removes what a crash of Available may have left.
func RemoveProbe(dir string) error {
	path := filepath.Join(dir, probe)
	mounted, err := IsMountPoint(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && mounted { // who may not unmount need not
		err = Unmount(path)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what a probe left: %w", err)
	}
	return nil
}

// Available says why a tmpfs can't be mounted in dir, by mounting one there
// for a moment.
func (t *Tmpfs) Available(dir string) error {
	path := filepath.Join(dir, probe)
	if err := os.Mkdir(path, 0700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("probing whether a tmpfs can be mounted: %w", err)
	}
	defer func() { _ = os.Remove(path) }()
	if err := t.Ensure(path); err != nil {
		return err
	}
	return Unmount(path)
}

// Unmount takes away what is mounted at path. It is no error if nothing is.
func Unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return wrap("unmounting", path, err)
}

// IsMountPoint says whether something is mounted at path itself.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	if err != nil {
		return false, wrap("looking for a mount", path, err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false, fmt.Errorf("looking for a mount at %s: this needs Linux 5.8 or newer", path)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Size is how much the file system that is mounted at path holds, in bytes.
// mounted is false if nothing is mounted there, or if there is no path.
func Size(path string) (size int64, mounted bool, err error) {
	mounted, err = IsMountPoint(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil || !mounted {
		return 0, false, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, false, wrap("looking for the size of a mount", path, err)
	}
	return int64(st.Blocks) * st.Bsize, true, nil //nolint:gosec // no tmpfs is that large
}

func wrap(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: doing, Path: path, Err: err}
}
