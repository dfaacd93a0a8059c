package tokenfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/test/isolate"
)

// TestMountReplaced mounts over the directory, and takes the mount away again.
// No event tells of that, so the poll does; what happens on the new mount has
// events from then on.
func TestMountReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := isolate.UnmountBelow(filepath.Dir(dir)); err != nil {
			t.Error(err)
		}
	})
	const poll = 2 * time.Second
	n := 0
	put := func() {
		t.Helper()
		n++
		put, err := kubeletWriter(dir)
		if err == nil {
			err = put(n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put()
	// Without readers: their calls may find what is new before the poll comes that
	// has the watch renewed.
	f := follow(t, path(dir), poll, 0)
	sees := func(within time.Duration) {
		t.Helper()
		if _, ok := f.sees(n, within); !ok {
			t.Fatalf("the %dth token was not seen within %s", n, within)
		}
	}
	mount := func() {
		t.Helper()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	sees(prompt)
	put() // that this one is seen says that the directory is watched by now
	sees(prompt)
	for _, change := range []func(){
		mount,
		func() { // another in its place, which may get the same numbers
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			mount()
		},
		mount,
	} {
		change()
		put()
		sees(poll + prompt)
		for range 3 {
			put()
			sees(prompt)
		}
	}
	// What a mount covered comes back.
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	n -= 4
	sees(poll + prompt)
}

// TestMountOfOneFile: it stays with the first token, as docs/consumers.md says, while
// a mount of the directory follows.
func TestMountOfOneFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	top := t.TempDir()
	t.Cleanup(func() {
		if err := isolate.UnmountBelow(top); err != nil {
			t.Error(err)
		}
	})
	volume, whole, one := filepath.Join(top, "volume"), filepath.Join(top, "whole"), filepath.Join(top, "one")
	err := errors.Join(os.Mkdir(volume, 0700), os.Mkdir(whole, 0700), os.WriteFile(one, nil, 0600))
	put, writerErr := kubeletWriter(volume)
	if err = errors.Join(err, writerErr); err != nil {
		t.Fatal(err)
	}
	holds := func(file string, n int) {
		t.Helper()
		if text, err := os.ReadFile(file); err != nil || number(string(text)) != n {
			t.Errorf("%s has token %d, %v; want %d", file, number(string(text)), err, n)
		}
	}
	for n := 1; n <= 3; n++ {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			err := errors.Join(unix.Mount(volume, whole, "", unix.MS_BIND, ""), unix.Mount(path(volume), one, "", unix.MS_BIND, ""))
			if err != nil {
				t.Fatal(err)
			}
		}
		holds(path(whole), n)
		holds(one, 1)
	}
}

// TestNothingIsLeft: Run takes along all goroutines and descriptors, however its
// watches changed meanwhile.
func TestNothingIsLeft(t *testing.T) {
	holdings := func() (goroutines, descriptors int) {
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(fds)
	}
	goroutines, descriptors := holdings()
	for range 20 {
		t.Run("", func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			f := follow(t, path(dir), never, 2)
			for n := 1; n < 4; n++ {
				if err := os.Mkdir(dir, 0700); err != nil {
					t.Fatal(err)
				}
				if err := replace(path(dir), n); err != nil {
					t.Fatal(err)
				}
				if _, ok := f.sees(n, patience); !ok {
					t.Fatal("not seen")
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	// A goroutine that has told that it is done still takes a moment to be gone.
	deadline := time.Now().Add(patience)
	g, d := holdings()
	for (g > goroutines || d > descriptors) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
		g, d = holdings()
	}
	if g > goroutines || d > descriptors {
		t.Errorf("%d goroutines and %d descriptors, before %d and %d\n%s", g, d, goroutines, descriptors, stack())
	}
}

func stack() []byte {
	buf := make([]byte, 1<<16)
	return buf[:runtime.Stack(buf, true)]
}
