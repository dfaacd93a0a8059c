package mount

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestList(t *testing.T) {
	dir := t.TempDir()
	if err := new(Tmpfs).Available(dir); err != nil {
		t.Skipf("a tmpfs can't be mounted: %v", err)
	}
	path := filepath.Join(dir, "with space\tand \\ more")
	if err := os.Mkdir(path, 0700); err != nil {
		t.Fatal(err)
	}
	if err := new(Tmpfs).Ensure(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Unmount(path) })
	if points, err := List(); err != nil || !slices.Contains(points, path) {
		t.Errorf("%q is not among %q, %v", path, points, err)
	}
	if err := Unmount(path); err != nil {
		t.Fatal(err)
	}
	if points, err := List(); err != nil || slices.Contains(points, path) {
		t.Errorf("%q is among %q, %v", path, points, err)
	}
}
