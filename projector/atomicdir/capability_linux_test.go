package atomicdir

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWithTheDaemonSetsCapabilities publishes as root with CHOWN, FOWNER and
// DAC_OVERRIDE, which is all that the DaemonSet's Pod has: without FSETID the
// kernel drops the setgid bit of a directory whose group is another's.
func TestWithTheDaemonSetsCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	dir := filepath.Join(t.TempDir(), "volume")
	check(t, os.Mkdir(dir, 0755))
	files := []File{
		{Path: "token", Data: []byte("one"), Mode: 0640, Owner: &Owner{UID: 1234, GID: -1}},
		{Path: "a/b/file", Data: []byte("one"), Mode: 0440},
	}
	done := make(chan struct{})
	go func() { // its thread ends with it, because it stays locked
		defer close(done)
		runtime.LockOSThread()
		if err := keepCapabilities(unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_DAC_OVERRIDE); err != nil {
			t.Error(err)
			return
		}
		d := New(dir, WithGroup(4321))
		for range 2 {
			if _, err := d.Publish(files); err != nil {
				t.Error(err)
				return
			}
			if result, err := New(dir, WithGroup(4321)).Publish(files); err != nil || result.Changed {
				t.Errorf("the same again: %+v, %v", result, err)
			}
			// Somebody spoils the group and the bit; the next publish repairs them.
			if err := os.Chown(dir, -1, 99); err != nil {
				t.Error(err)
			}
			if err := unix.Chmod(dir, 0755); err != nil {
				t.Error(err)
			}
			files[0].Data = []byte("two")
		}
		if _, err := d.Publish(files); err != nil {
			t.Error(err)
		}
	}()
	<-done
	group := Owner{UID: 0, GID: 4321}
	for _, name := range []string{"", "..data/", "..data/a", "..data/a/b"} {
		var st syscall.Stat_t
		check(t, syscall.Stat(filepath.Join(dir, name), &st))
		if st.Mode&02050 != 02050 || st.Gid != 4321 {
			t.Errorf("%q has mode %04o and group %d", name, st.Mode&07777, st.Gid)
		}
	}
	assertMode(t, filepath.Join(dir, "token"), 0640, &Owner{UID: 1234, GID: 4321}, group)
	assertMode(t, filepath.Join(dir, "a/b/file"), 0440, nil, group)
}

// keepCapabilities takes all others from this thread.
func keepCapabilities(keep ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for _, c := range keep {
		data[c/32].Effective |= 1 << (c % 32)
		data[c/32].Permitted |= 1 << (c % 32)
	}
	return unix.Capset(&header, &data[0])
}
