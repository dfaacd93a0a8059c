package projector

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/internal/mount"
	"github.com/token-projector/token-projector/projector/atomicdir"
)

// plant makes a volume with a token below a root directory.
func plant(t *testing.T, root, uid, name string) {
	t.Helper()
	path, err := volumePath(root, Key{PodUID: types.UID(uid), Volume: name})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(path, 0750); err != nil {
		t.Fatal(err)
	}
	if _, err := atomicdir.New(path).Publish([]atomicdir.File{{Path: "token", Data: []byte("t"), Mode: 0600}}); err != nil {
		t.Fatal(err)
	}
}

func TestWipe(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "one", "a")
	plant(t, root, "one", "b")
	plant(t, root, "two", "a")
	if n, err := Wipe(root); err != nil || n != 3 {
		t.Errorf("%d volumes, %v", n, err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if n, err := Wipe(root); err != nil || n != 0 {
		t.Errorf("the second time: %d volumes, %v", n, err)
	}
}

func TestWipeLeavesWhatIsNotAVolume(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "one", "a")
	theirs := filepath.Join(root, podsDir, "one", "etc-hosts")
	if err := os.WriteFile(theirs, nil, 0600); err != nil {
		t.Fatal(err)
	}
	if n, err := Wipe(root); err == nil || n != 1 {
		t.Errorf("%d volumes, error %v", n, err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
}

func TestWipeUnmounts(t *testing.T) {
	if err := TmpfsAvailable(t.TempDir()); err != nil {
		t.Skipf("a tmpfs can't be mounted: %v", err)
	}
	root := t.TempDir()
	path := filepath.Join(root, podsDir, "one", volumesDir, pluginDir, "a")
	if err := os.MkdirAll(path, 0750); err != nil {
		t.Fatal(err)
	}
	if err := new(mount.Tmpfs).Ensure(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mount.Unmount(path) })
	plant(t, root, "one", "a")
	if n, err := Wipe(root); err != nil || n != 1 {
		t.Errorf("%d volumes, %v", n, err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
