package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies are the directories of the control groups' roots: one with
// version 2, one for each controller with version 1.
func hierarchies() ([]string, error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err == nil {
		return []string{root}, nil
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "cgroup.procs"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(fmt.Errorf("finding no control groups below %s", root), err)
	}
	var dirs []string
	for _, file := range files {
		dir := filepath.Dir(file)
		if info, err := os.Lstat(dir); err == nil && info.IsDir() { // and no second name
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// makeCgroups makes a control group in each hierarchy, with the name of dir.
func makeCgroups(dir string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.Mkdir(filepath.Join(root, filepath.Base(dir)), 0755); err != nil {
			return fmt.Errorf("making a control group: %w", err)
		}
	}
	return nil
}

// emptyTimeout is how long a control group may take to notice that the last
// process in it has ended.
const emptyTimeout = 5 * time.Second

// removeCgroups removes the control groups with the name of dir, and all below
// them. No process may be left in them.
func removeCgroups(dir string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		errs = append(errs, removeCgroup(filepath.Join(root, filepath.Base(dir))))
	}
	return errors.Join(errs...)
}

func removeCgroup(top string) error {
	var all []string
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			all = append(all, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking at control groups: %w", err)
	}
	for _, path := range slices.Backward(all) {
		deadline := time.Now().Add(emptyTimeout)
		err := os.Remove(path)
		for errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a control group: %w", err)
		}
	}
	return nil
}
