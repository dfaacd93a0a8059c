package projector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/token-projector/token-projector/internal/mount"
	"github.com/token-projector/token-projector/projector/atomicdir"
)

// Medium is what a volume is made of.
type Medium string

// The media.
const (
	// MediumTmpfs is one tmpfs for each volume, so that tokens never reach a
	// disk. It needs the right to mount.
	MediumTmpfs Medium = "tmpfs"
	// MediumDirectory is a plain directory, on whatever the root directory
	// lies on.
	MediumDirectory Medium = "directory"
)

// TmpfsAvailable says why volumes below root can't be MediumTmpfs, by mounting
// one for a moment.
func TmpfsAvailable(root string) error { return new(mount.Tmpfs).Available(root) }

// medium makes and unmakes a volume's directory. Calls for one path must not
// overlap.
type medium struct {
	tmpfs *mount.Tmpfs // nil for MediumDirectory
	limit int64        // of a volume, in bytes; 0 is none
}

func newMedium(m Medium, sizeLimit int64) (medium, error) {
	switch m {
	case MediumTmpfs, "":
		return medium{tmpfs: &mount.Tmpfs{Size: sizeLimit}, limit: sizeLimit}, nil
	case MediumDirectory:
		return medium{limit: sizeLimit}, nil
	}
	return medium{}, fmt.Errorf("volume medium %q: want %q or %q", m, MediumTmpfs, MediumDirectory)
}

// present says whether the volume exists. After a reboot the directory of a
// tmpfs is there and the mount is not. A directory that was published in before
// the medium was changed goes on as one: a workload has it mounted.
func (m medium) present(path string) (bool, error) {
	mounted, err := mount.IsMountPoint(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	if mounted || m.tmpfs == nil {
		return true, nil
	}
	set, err := atomicdir.New(path).Read()
	return set.Generation != "", err
}

// read returns what is published in a volume; that is nothing if the volume does
// not exist.
func (m medium) read(path string, dir *atomicdir.Dir) (atomicdir.Set, error) {
	present, err := m.present(path)
	if err != nil || !present {
		return atomicdir.Set{}, err
	}
	return dir.Read()
}

// prepare makes the volume's directory, with a tmpfs on it where that is the
// medium. What lies on the disk below is removed first, not hidden.
func (m medium) prepare(path string) error {
	present, err := m.present(path)
	if err != nil || present {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0750); err != nil {
		return fmt.Errorf("making the volume's parents: %w", err)
	}
	if err := os.Mkdir(path, 0755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the volume: %w", err)
	}
	if m.tmpfs == nil {
		return nil
	}
	if err := atomicdir.New(path).Wipe(); err != nil {
		return err
	}
	return m.tmpfs.Ensure(path)
}

// fits says why files can't be published in a volume: a swap needs room for the
// old set and the new one, and no path may be in the way of another. It is asked
// before anything is written, and of a volume that is mounted goes by its own
// size, which an earlier process gave it.
func (m medium) fits(path string, files []atomicdir.File) error {
	if err := atomicdir.Check(files); err != nil {
		return err
	}
	limit := m.limit
	if m.tmpfs != nil {
		size, mounted, err := mount.Size(path)
		if err != nil {
			return err
		}
		if mounted {
			limit = size
		}
	}
	if size := spaceOf(files); limit > 0 && size > limit {
		return fmt.Errorf("the volume's files take %d bytes, and its size limit of %d has no room for two such sets; "+
			"raise the limit for new volumes (--volume-size-limit)", size/2, limit)
	}
	return nil
}

// spaceOf is what files take: two sets of them, in pages.
func spaceOf(files []atomicdir.File) int64 {
	const page = 4096
	var size int64
	for _, f := range files {
		size += (int64(len(f.Data)) + page - 1) / page * page
	}
	return 2 * size
}

// maxSize is how many bytes the files of a volume may have; fits looks closer.
func (m medium) maxSize() int {
	if m.limit == 0 {
		return atomicdir.MaxSize
	}
	return int(min(m.limit/2, atomicdir.MaxSize))
}

// release wipes the volume, unmounts it and removes its directory. existed is
// false if there was none, which is no error.
func (m medium) release(path string) (existed bool, err error) {
	mounted, err := mount.IsMountPoint(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := atomicdir.New(path).Wipe(); err != nil {
		return true, err
	}
	if mounted {
		if err := mount.Unmount(path); err != nil {
			return true, err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, fmt.Errorf("removing the volume: %w", err)
	}
	return true, nil
}
