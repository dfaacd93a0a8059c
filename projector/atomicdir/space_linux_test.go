package atomicdir

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// small mounts a tmpfs with little of something.
func small(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skip("this machine does not let root mount: ", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	return dir
}

// TestFullDisk: publishes that don't fit fail, the old set stays and nothing
// is left over; one that fits succeeds.
func TestFullDisk(t *testing.T) {
	large := func(n int) []File { // more bytes than there are
		return append(payload("large"), File{Path: "large", Data: make([]byte, 256<<10+n), Mode: 0644})
	}
	numerous := func(n int) []File { // more inodes than there are
		files := payload("numerous")
		for i := range 64 {
			files = append(files, File{Path: fmt.Sprintf("many/%d-%d", n, i), Mode: 0644})
		}
		return files
	}
	for _, tt := range []struct {
		name, options string
		tooMuch       func(n int) []File
	}{
		{"bytes", "size=128k", large},
		{"inodes", "nr_inodes=40", numerous},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := small(t, tt.options)
			d := New(dir, WithGrace(0))
			_, err := d.Publish(payload("one"))
			check(t, err)
			for n := range 5 {
				r, err := d.Publish(tt.tooMuch(n))
				if !errors.Is(err, syscall.ENOSPC) || r.Changed {
					t.Errorf("publish %d: %+v, %v, want ENOSPC", n, r, err)
				}
				assertTree(t, dir, published("one"))
			}
			_, err = d.Publish(payload("two"))
			check(t, err)
			assertTree(t, dir, published("two"))
		})
	}
}

// TestOldGenerationsGiveWay: those that stay for their grace are removed if
// there is no space for a new one.
func TestOldGenerationsGiveWay(t *testing.T) {
	dir := small(t, "size=128k")
	d := New(dir, WithGrace(time.Hour))
	files := func(n int) []File { // two fit, three don't
		return []File{{Path: "f", Data: fmt.Appendf(nil, "%50000d", n), Mode: 0644}}
	}
	for n := range 10 {
		r, err := d.Publish(files(n))
		check(t, err)
		if !r.Changed {
			t.Errorf("publish %d: %+v", n, r)
		}
	}
	if set, err := d.Read(); err != nil || len(set.Files) != 1 || !d.same(set.Files[0], files(9)[0]) {
		t.Errorf("read %v, %v", set, err)
	}
}
