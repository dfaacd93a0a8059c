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

func TestParse(t *testing.T) {
	got := Parse([]byte("36 35 0:98 /..2026_01_02/to\\040ken//deleted /var/run/se\\040crets rw,noatime master:1 - tmpfs projectord rw\n" +
		"1 2 garbage\n" +
		"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"))
	want := []Mount{
		{Device: "0:98", Root: "/..2026_01_02/to ken//deleted", Point: "/var/run/se crets", Type: "tmpfs", Source: "projectord"},
		{Device: "8:1", Root: "/", Point: "/", Type: "ext4", Source: "/dev/sda1"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
