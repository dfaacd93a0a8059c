package integration

import (
	"io/fs"
	"syscall"
	"testing"
)

func assertOwner(t *testing.T, info fs.FileInfo, uid, gid uint32) {
	t.Helper()
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid != uid || st.Gid != gid {
		t.Errorf("%s belongs to %d:%d, want %d:%d", info.Name(), st.Uid, st.Gid, uid, gid)
	}
}
