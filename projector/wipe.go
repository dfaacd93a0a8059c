package projector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/token-projector/token-projector/internal/mount"
)

// Wipe removes all volumes below a root directory, mounted or not, and returns
// how many there were. What is not a volume stays, and is an error. No Projector
// may work on the root directory meanwhile.
func Wipe(root string) (removed int, err error) {
	keys, err := onDisk(root)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, key := range keys {
		path, err := volumePath(root, key)
		if err != nil {
			return removed, err
		}
		existed, err := medium{}.release(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("removing volume %s: %w", path, err))
			continue
		}
		removeEmpty(root, filepath.Dir(path))
		if existed {
			removed++
		}
	}
	if err := os.Remove(filepath.Join(root, podsDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("removing the directory of all Pods: %w", err))
	}
	errs = append(errs, mount.RemoveProbe(root))
	return removed, errors.Join(errs...)
}
