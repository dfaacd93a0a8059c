package atomicdir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMountPoints(t *testing.T) {
	dir := t.TempDir()
	points := WithMountPoints("data", "deep/er/point", "dir/below-a-file")
	for _, token := range []string{"one", "two"} {
		r := publish(t, dir, payload(token), points)
		if len(r.Foreign) != 0 {
			t.Errorf("foreign names %q", r.Foreign)
		}
		want := append(published(token), "drwxr-xr-x data", "drwxr-xr-x deep", "drwxr-xr-x deep/er", "drwxr-xr-x deep/er/point")
		slices.Sort(want)
		assertTree(t, dir, want)
	}
	// What a workload does to them is healed where that is possible, and
	// never followed.
	outside := t.TempDir()
	check(t, os.RemoveAll(filepath.Join(dir, "data")))
	check(t, os.RemoveAll(filepath.Join(dir, "deep")))
	check(t, os.Symlink(outside, filepath.Join(dir, "deep")))
	_, err := New(dir, WithGrace(0), points).Publish(payload("three"))
	if err == nil || !strings.Contains(err.Error(), "deep/er/point") {
		t.Errorf("a link in the place of a mount point's parent: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
}
