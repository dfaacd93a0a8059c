package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTmpfs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	tmpfs := &Tmpfs{Size: 1 << 20}
	dir := t.TempDir()
	if err := tmpfs.Available(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Fatalf("the probe left %v, %v", left, err)
	}
	path := filepath.Join(dir, "volume")
	if err := os.Mkdir(path, 0755); err != nil {
		t.Fatal(err)
	}
	assertMounted := func(want bool) {
		t.Helper()
		if got, err := IsMountPoint(path); err != nil || got != want {
			t.Fatalf("IsMountPoint = %v, %v; want %v", got, err, want)
		}
	}
	assertMounted(false)
	for range 2 { // the second time it is there already
		if err := tmpfs.Ensure(path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = Unmount(path) })
		assertMounted(true)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	if size, mounted, err := Size(path); size != tmpfs.Size || !mounted || err != nil {
		t.Errorf("Size = %d, %v, %v; want %d", size, mounted, err, tmpfs.Size)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(info), " "+path+" "); n != 1 {
		t.Errorf("%d mounts at the volume, want 1", n)
	}
	if want := unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC; int(st.Flags)&want != want {
		t.Errorf("mount flags %#x, want nosuid, nodev and noexec", st.Flags)
	}
	for range 2 { // the second time it is gone already
		if err := Unmount(path); err != nil {
			t.Fatal(err)
		}
		assertMounted(false)
	}
	if _, err := IsMountPoint(filepath.Join(dir, "absent")); !os.IsNotExist(err) {
		t.Errorf("IsMountPoint of nothing: %v", err)
	}
}

// TestUnmountWhatIsInUse: a shell in a volume keeps no Pod from ending.
func TestUnmountWhatIsInUse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	path := t.TempDir()
	if err := new(Tmpfs).Ensure(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(path, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Unmount(path, 0); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("it is not in use: %v", err)
	}
	if err := Unmount(path); err != nil {
		t.Fatal(err)
	}
	if mounted, err := IsMountPoint(path); err != nil || mounted {
		t.Errorf("mounted %t, %v", mounted, err)
	}
}

// TestExtrasAreNotNeeded: what a kernel refuses is done without. This one, booted
// without SELinux, refuses a label.
func TestExtrasAreNotNeeded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if hasSELinux() {
		t.Skip("this kernel takes a label")
	}
	tmpfs, dir := &Tmpfs{}, t.TempDir()
	for i := range 2 {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(path, 0755); err != nil {
			t.Fatal(err)
		}
		if err := tmpfs.ensure(path, extras(true)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = Unmount(path) })
		if mounted, err := IsMountPoint(path); err != nil || !mounted {
			t.Errorf("mounted %t, %v", mounted, err)
		}
	}
	if n := tmpfs.refused.Load(); n < 2 {
		t.Errorf("%d were refused, want those with a label", n)
	}
	if all := extras(true); !strings.Contains(all[0], "container_file_t") || all[len(all)-1] != "" {
		t.Errorf("extras %q", all)
	}
}
