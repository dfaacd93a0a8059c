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
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Tmpfs mounts file systems in memory. It may be used by many goroutines, for
// different paths. The zero value mounts without a size limit.
type Tmpfs struct {
	// Size is the limit of each mount in bytes; 0 is the kernel's default,
	// half of the machine's memory.
	Size int64

	refused atomic.Int32 // how many of the extras the kernel has refused
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

// containerContext is the SELinux label of files that every container may read, as
// container-selinux and the distributions that have it call it. What is mounted with
// a label can't be relabelled, and needs not be.
const containerContext = "context=system_u:object_r:container_file_t:s0"

// extras are what a mount should have besides, the best first: where a kernel or its
// SELinux policy refuses one, the next is good enough. noswap is there from Linux 6.4
// on, and keeps what is in it from being swapped to disk.
func extras(selinux bool) []string {
	if selinux {
		return []string{",noswap," + containerContext, "," + containerContext, ",noswap", ""}
	}
	return []string{",noswap", ""}
}

// hasSELinux says whether the kernel was booted with SELinux, enforcing or not.
func hasSELinux() bool {
	known, err := os.ReadFile("/proc/filesystems")
	return err == nil && strings.Contains(string(known), "\tselinuxfs\n")
}

// Ensure mounts a tmpfs on the directory at path, unless one is mounted there
// already. Calls for one path must not overlap.
func (t *Tmpfs) Ensure(path string) error { return t.ensure(path, extras(hasSELinux())) }

func (t *Tmpfs) ensure(path string, extras []string) error {
	mounted, err := IsMountPoint(path)
	if err != nil || mounted {
		return err
	}
	options := fmt.Sprintf("mode=1777,nr_inodes=%d", inodes)
	if t.Size > 0 {
		options += fmt.Sprintf(",size=%d", t.Size)
	}
	for i := int(t.refused.Load()); i < len(extras); i++ {
		err = unix.Mount(Source, path, "tmpfs", flags, options+extras[i])
		if !errors.Is(err, unix.EINVAL) {
			t.refused.Store(int32(i)) //nolint:gosec // there are four at most
			break
		}
	}
	return wrap("mounting a tmpfs", path, err)
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

// Unmount takes away what is mounted at path. It is no error if nothing is. Who has a
// file of it open keeps that, and nobody waits for it: a Pod could not end for as
// long as somebody's shell is in its volume.
func Unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
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
