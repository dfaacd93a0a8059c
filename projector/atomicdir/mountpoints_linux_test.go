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
	points := WithMountPoints("data", "deep/er/point")
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

// TestMountPointsAndFiles: a directory that somebody may have mounted on is not
// replaced by a file's link, and a link that somebody may read not by a
// directory.
func TestMountPointsAndFiles(t *testing.T) {
	points := WithMountPoints("token", "dir/below")
	t.Run("mounts first", func(t *testing.T) {
		dir := t.TempDir()
		publish(t, dir, payload("one"), points)
		for _, name := range []string{"token", "dir", "dir/below"} {
			if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.IsDir() {
				t.Errorf("%s is %v, %v, want a directory", name, info, err)
			}
		}
		before := inodes(t, filepath.Join(dir, "token"))
		publish(t, dir, payload("two"), points)
		if after := inodes(t, filepath.Join(dir, "token")); !slices.Equal(before, after) {
			t.Error("the mount point was replaced")
		}
		publish(t, dir, payload("two"))
		assertTree(t, dir, published("two"))
	})
	t.Run("files first", func(t *testing.T) {
		dir := t.TempDir()
		publish(t, dir, payload("one"))
		for _, token := range []string{"one", "two"} {
			_, err := New(dir, WithGrace(0), points).Publish(payload(token))
			if err == nil || !strings.Contains(err.Error(), "mount somewhere else") {
				t.Errorf("Publish() = %v, want it to say that a file is there", err)
			}
			assertTree(t, dir, published(token))
		}
		// Without the files there is room, from the next publish on.
		other := []File{{Path: "other", Mode: 0600}}
		_, _ = New(dir, WithGrace(0), points).Publish(other)
		publish(t, dir, other, points)
		for _, name := range []string{"token", "dir/below"} {
			if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.IsDir() {
				t.Errorf("%s is %v, %v, want a directory", name, info, err)
			}
		}
	})
}
