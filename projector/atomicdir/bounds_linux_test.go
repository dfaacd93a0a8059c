package atomicdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// within fails if f takes longer than anything that is bounded may.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not end", what)
	}
}

// TestEndlessTree: a workload digs deeper as fast as the writer removes.
func TestEndlessTree(t *testing.T) {
	dir := shm(t)
	publish(t, dir, payload("one"))
	for _, place := range []string{"..2020_01_01_00_00_00.1", dataLinkTmp, "token", dataLink} {
		path := filepath.Join(dir, place)
		check(t, os.RemoveAll(path))
		check(t, os.Mkdir(path, 0755))
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		check(t, err)
		var stop atomic.Bool
		digging := make(chan struct{})
		go func() {
			defer close(digging)
			for !stop.Load() {
				_ = unix.Mkdirat(fd, "d", 0755)
				next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
				if err != nil {
					continue
				}
				_ = unix.Close(fd)
				fd = next
			}
		}()
		within(t, "a publish beside an endless "+place, func() {
			r, err := New(dir, WithGrace(0)).Publish(payload("two " + place))
			if !r.Changed {
				t.Errorf("nothing was published: %+v, %v", r, err)
			}
		})
		if b, err := os.ReadFile(filepath.Join(dir, "token")); err != nil || string(b) != "two "+place {
			t.Errorf("with an endless %s readers get %q, %v", place, b, err)
		}
		stop.Store(true)
		<-digging
		check(t, unix.Close(fd))
		for range 100 { // as much at a time as one call may
			if _, err = New(dir, WithGrace(0)).Publish(payload("two " + place)); err == nil {
				break
			}
		}
		assertTree(t, dir, published("two "+place))
	}
}

// TestTooMuchToRead: what a workload adds to a generation costs neither memory
// nor the next publish.
func TestTooMuchToRead(t *testing.T) {
	for _, tt := range []struct {
		name string
		add  func(generation string)
	}{
		{"bytes", func(generation string) {
			for i := range 10 {
				path := filepath.Join(generation, fmt.Sprint(i))
				check(t, os.WriteFile(path, nil, 0644))
				check(t, os.Truncate(path, 4<<20)) // sparse
			}
		}},
		{"one file", func(generation string) {
			path := filepath.Join(generation, "huge")
			check(t, os.WriteFile(path, nil, 0644))
			check(t, os.Truncate(path, 1<<40))
		}},
		{"names", func(generation string) {
			for i := range maxEntries + 1 {
				check(t, os.Symlink("x", filepath.Join(generation, fmt.Sprint(i))))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := shm(t)
			r := publish(t, dir, payload("one"))
			tt.add(filepath.Join(dir, r.Generation))
			if set, err := New(dir).Read(); err == nil || !strings.Contains(err.Error(), "more than") {
				t.Errorf("read %d files, %v", len(set.Files), err)
			}
			publish(t, dir, payload("one"))
			for range 2 { // so many names are not removed at once
				_, _ = New(dir, WithGrace(0)).Publish(payload("one"))
			}
			assertTree(t, dir, published("one"))
		})
	}
}

func TestTooMuchToPublish(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, payload("one"))
	for name, files := range map[string][]File{
		"bytes": {{Path: "f", Data: make([]byte, MaxSize+1)}},
		"files": make([]File, maxFiles+1),
	} {
		if _, err := New(dir).Publish(files); err == nil || !strings.Contains(err.Error(), "want at most") {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	assertTree(t, dir, published("one"))
}

// TestManyForeignNames reports a few.
func TestManyForeignNames(t *testing.T) {
	dir := t.TempDir()
	for i := range 1000 {
		check(t, os.Symlink("x", filepath.Join(dir, fmt.Sprint(i))))
	}
	if r := publish(t, dir, payload("one")); len(r.Foreign) != maxForeign {
		t.Errorf("%d foreign names are reported, want %d", len(r.Foreign), maxForeign)
	}
}

// TestNoSpaceForLinks: the swap fits, the links after it don't, until the old
// generation has gone.
func TestNoSpaceForLinks(t *testing.T) {
	files := func(names ...string) (out []File) {
		for _, n := range names {
			out = append(out, File{Path: n, Data: []byte("x"), Mode: 0644})
		}
		return out
	}
	wedged, succeeded := 0, 0
	for inodes := 8; inodes < 24; inodes++ {
		options := fmt.Sprintf("nr_inodes=%d", inodes)
		if _, err := New(small(t, options)).Publish(files("a", "b", "c", "d")); err != nil {
			continue // it does not even fit alone
		}
		dir := small(t, options)
		d := New(dir, WithGrace(time.Hour))
		if _, err := d.Publish(files("a")); err != nil {
			continue
		}
		for range 3 {
			_, err := d.Publish(files("a", "b", "c", "d"))
			if err == nil {
				succeeded++
				continue
			}
			if _, statErr := os.Stat(filepath.Join(dir, "..data/d")); statErr == nil {
				wedged++ // it was swapped in, and can't be reached by its names
			}
		}
	}
	if wedged != 0 || succeeded == 0 {
		t.Errorf("%d publishes stopped after the swap, %d succeeded", wedged, succeeded)
	}
}

// TestMountOnAName: a mount in the place of a file's link is an error at each
// publish, and neither keeps the others from being put right nor old
// generations from going.
func TestMountOnAName(t *testing.T) {
	dir := small(t, "")
	d := New(dir, WithGrace(0))
	_, err := d.Publish(payload("one"))
	check(t, err)
	check(t, os.Remove(filepath.Join(dir, "ca.crt")))
	check(t, os.WriteFile(filepath.Join(dir, "ca.crt"), nil, 0644))
	check(t, syscall.Mount("/etc/hostname", filepath.Join(dir, "ca.crt"), "", syscall.MS_BIND, ""))
	t.Cleanup(func() { _ = syscall.Unmount(filepath.Join(dir, "ca.crt"), 0) })
	for n := range 5 {
		r, err := d.Publish(payload(fmt.Sprint(n)))
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "ca.crt") || !r.Changed {
			t.Errorf("publish %d: %+v, %v", n, r, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "token")); err != nil || string(b) != fmt.Sprint(n) {
			t.Errorf("token is %q, %v", b, err)
		}
	}
	if old := oldGenerations(t, dir); len(old) != 0 {
		t.Errorf("old generations %v", old)
	}
	check(t, syscall.Unmount(filepath.Join(dir, "ca.crt"), 0))
	_, err = d.Publish(payload("two"))
	check(t, err)
	assertTree(t, dir, published("two"))
}

// TestLease: a reader that wants to be asked before a file is opened does not
// stop a publish.
func TestLease(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, payload("one"))
	f, err := os.Open(filepath.Join(dir, "token"))
	check(t, err)
	defer func() { check(t, f.Close()) }()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("no leases on this file system: ", err)
	}
	publish(t, dir, payload("one"))
	publish(t, dir, payload("two"))
	assertTree(t, dir, published("two"))
}

func TestWipeGoesOnAfterAMount(t *testing.T) {
	dir := small(t, "")
	publish(t, dir, payload("one"))
	check(t, os.Remove(filepath.Join(dir, dataLink)))
	check(t, os.Mkdir(filepath.Join(dir, dataLink), 0755))
	check(t, syscall.Mount("tmpfs", filepath.Join(dir, dataLink), "tmpfs", 0, ""))
	t.Cleanup(func() { check(t, syscall.Unmount(filepath.Join(dir, dataLink), 0)) })
	if err := New(dir).Wipe(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("wiping with a mount inside: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "..2*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestReadBackIsNoChange: what was read can be published again without a
// change, as it is when a source fails.
func TestReadBackIsNoChange(t *testing.T) {
	dir := t.TempDir()
	d := New(dir, WithGrace(0))
	_, err := d.Publish(payload("one"))
	check(t, err)
	set, err := d.Read()
	check(t, err)
	for i := range set.Files {
		set.Files[i].Owner.GID = -1
	}
	if r, err := d.Publish(set.Files); err != nil || r.Changed {
		t.Errorf("%+v, %v", r, err)
	}
	check(t, os.WriteFile(filepath.Join(dir, "..data", "..planted"), nil, 0644))
	if again, err := d.Read(); err != nil || len(again.Files) != len(set.Files) {
		t.Errorf("a name that can't be published is read back: %v, %v", again, err)
	}
}

// TestSyncIsNotForgotten: links that a process could not sync are synced by the
// next publish, even if nothing has changed.
func TestSyncIsNotForgotten(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, payload("one"), WithSync())
	d := New(dir, WithGrace(0), WithSync())
	r, err := d.Publish(payload("one"))
	if err != nil || r.Changed || d.synced != r.Generation {
		t.Errorf("%+v, %v; synced is %q", r, err, d.synced)
	}
}
