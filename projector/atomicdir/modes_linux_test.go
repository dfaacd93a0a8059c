package atomicdir

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestModes goes through modes, umasks, owners, and whether the file was there
// before, with what this user may do: root sets any owner, another user only
// itself.
func TestModes(t *testing.T) {
	self := Owner{UID: os.Geteuid(), GID: os.Getegid()}
	owners := []*Owner{nil, &self, {UID: -1, GID: -1}, {UID: self.UID, GID: -1}}
	umasks := []int{0, 022, 077}
	if self.UID == 0 {
		umasks = append(umasks, 0777) // nobody else can open a directory that it made
		owners = append(owners, &Owner{UID: 1234, GID: -1}, &Owner{UID: -1, GID: 5678}, &Owner{UID: 1234, GID: 5678})
	}
	for _, umask := range umasks {
		for _, mode := range []fs.FileMode{0, 0400, 0440, 0600, 0644, 0777} {
			for _, owner := range owners {
				for _, before := range []fs.FileMode{01000, 0400, 0666} { // 01000: not there
					name := fmt.Sprintf("umask %04o mode %04o owner %v before %04o", umask, mode, owner, before)
					t.Run(name, func(t *testing.T) {
						dir := t.TempDir()
						defer syscall.Umask(syscall.Umask(umask))
						if before != 01000 {
							publish(t, dir, []File{{Path: "d/f", Data: []byte("x"), Mode: before}})
						}
						publish(t, dir, []File{{Path: "d/f", Data: []byte("x"), Mode: mode, Owner: owner}})
						assertMode(t, filepath.Join(dir, "d/f"), mode, owner, self)
						assertMode(t, filepath.Join(dir, "..data/d"), 0755, nil, self)
						assertMode(t, filepath.Join(dir, "..data/"), 0755, nil, self)
					})
				}
			}
		}
	}
}

func assertMode(t *testing.T, path string, mode fs.FileMode, owner *Owner, self Owner) {
	t.Helper()
	var st syscall.Stat_t
	check(t, syscall.Stat(path, &st))
	want := self
	if owner != nil && owner.UID >= 0 {
		want.UID = owner.UID
	}
	if owner != nil && owner.GID >= 0 {
		want.GID = owner.GID
	}
	if got := (Owner{UID: int(st.Uid), GID: int(st.Gid)}); got != want || fs.FileMode(st.Mode&07777) != mode {
		t.Errorf("%s has mode %04o and owner %v, want %04o and %v", path, st.Mode&07777, got, mode, want)
	}
}
