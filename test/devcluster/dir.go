package devcluster

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/token-projector/token-projector/test/isolate"
)

// dirPrefix begins the names of the directories of clusters.
const dirPrefix = "token-projector-devcluster-"

// newDir makes the directory of a cluster and locks it for this process's
// life. Directories that nobody has locked were left by killed processes, and
// are removed.
func newDir() (dir string, unlock func(), err error) {
	// One at a time, so that nobody sweeps a directory away before it is locked.
	cache, err := cacheDir()
	if err != nil {
		return "", nil, err
	}
	turn, err := lockFile(filepath.Join(cache, "instances.lock"))
	if err != nil {
		return "", nil, err
	}
	defer turn()
	sweep()
	dir, err = os.MkdirTemp("", dirPrefix)
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return "", nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return dir, func() { _ = f.Close() }, nil
}

// sweep removes what killed processes left. What can't be removed is left.
func sweep() {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && isolate.UnmountBelow(dir) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = f.Close()
	}
}
