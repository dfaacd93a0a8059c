package projector

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/token-projector/token-projector/internal/mount"
	"github.com/token-projector/token-projector/projector/atomicdir"
)

// TestMediumChange publishes with one medium and goes on with the other: what
// a workload has mounted must stay where it is, and what is new uses the new
// medium.
func TestMediumChange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	newOf := func(t *testing.T, m Medium) medium {
		t.Helper()
		made, err := newMedium(m, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	mounted := func(t *testing.T, path string) bool {
		t.Helper()
		is, err := mount.IsMountPoint(path)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	for _, from := range []Medium{MediumDirectory, MediumTmpfs} {
		t.Run("from "+string(from), func(t *testing.T) {
			to := map[Medium]Medium{MediumDirectory: MediumTmpfs, MediumTmpfs: MediumDirectory}[from]
			old, fresh := newOf(t, from), newOf(t, to)
			path := filepath.Join(t.TempDir(), "parents", "v")
			t.Cleanup(func() { _ = mount.Unmount(path) })
			if err := old.prepare(path); err != nil {
				t.Fatal(err)
			}
			files := []atomicdir.File{{Path: "token", Data: []byte("t"), Mode: 0600}}
			if _, err := atomicdir.New(path).Publish(files); err != nil {
				t.Fatal(err)
			}

			if err := fresh.prepare(path); err != nil {
				t.Fatal(err)
			}
			if set, err := atomicdir.New(path).Read(); err != nil || len(set.Files) != 1 {
				t.Errorf("after the change of medium the volume holds %v, %v", set.Files, err)
			}
			if got, want := mounted(t, path), from == MediumTmpfs; got != want {
				t.Errorf("mounted: %v, want %v, as it was", got, want)
			}

			if existed, err := fresh.release(path); err != nil || !existed {
				t.Fatalf("release: existed %v, %v", existed, err)
			}
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("released volume is still there: %v", err)
			}
			if err := fresh.prepare(path); err != nil {
				t.Fatal(err)
			}
			if got, want := mounted(t, path), to == MediumTmpfs; got != want {
				t.Errorf("a new volume is mounted: %v, want %v", got, want)
			}
		})
	}
}

// TestFits: a swap needs room for two sets, where there is a limit.
func TestFits(t *testing.T) {
	for _, tt := range []struct {
		medium Medium
		limit  int64
		size   int
		want   bool
	}{
		{MediumTmpfs, 4 * 4096, 4097, true}, // two files of a page each
		{MediumTmpfs, 4*4096 - 1, 4097, false},
		{MediumTmpfs, 4 * 4096, 4098, false},
		{MediumTmpfs, 0, 1 << 20, true},
		{MediumDirectory, 4 * 4096, 4097, true},
		{MediumDirectory, 4*4096 - 1, 4097, false},
		{MediumDirectory, 0, 1 << 20, true},
		{MediumDirectory, 0, 17 << 20, false}, // more than any volume may hold
	} {
		m, err := newMedium(tt.medium, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		err = m.fits(filepath.Join(t.TempDir(), "none"), []atomicdir.File{{Path: "a", Data: make([]byte, tt.size-1)}, {Path: "b", Data: make([]byte, 1)}})
		if (err == nil) != tt.want {
			t.Errorf("%d bytes in a %s of %d: %v, want it to fit: %v", tt.size, tt.medium, tt.limit, err, tt.want)
		}
	}
}

// TestFitsWhatIsMounted: a volume keeps the size that it was mounted with.
func TestFitsWhatIsMounted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	path := t.TempDir()
	small := &mount.Tmpfs{Size: 2 * 4096}
	if err := small.Ensure(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mount.Unmount(path) })
	m, err := newMedium(MediumTmpfs, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.fits(path, []atomicdir.File{{Path: "a", Data: make([]byte, 4096)}}); err != nil {
		t.Errorf("one page in two: %v", err)
	}
	if err := m.fits(path, []atomicdir.File{{Path: "a", Data: make([]byte, 4097)}}); err == nil {
		t.Error("two pages fit a mounted volume of two, because new ones are larger")
	}
}
