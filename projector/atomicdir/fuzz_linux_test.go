package atomicdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// plant makes things in a volume from bytes: pairs of what and where.
func plant(t *testing.T, dir, canary string, program []byte) {
	t.Helper()
	names := []string{
		dataLink, dataLinkTmp, "token", "dir", "theirs", "..odd", "..2020_01_01_00_00_00.1", "..2020_01_01_00_00_00.2",
		"dir/sub", "..2020_01_01_00_00_00.1/token", "..2020_01_01_00_00_00.1/dir", "..2020_01_01_00_00_00.1/dir/sub",
	}
	targets := []string{"..2020_01_01_00_00_00.1", "..data/token", "..data/dir", canary, "../canary", "nowhere", ".", "..", "/"}
	root, err := os.OpenRoot(dir) // so that it does not fall into its own traps
	check(t, err)
	defer func() { check(t, root.Close()) }()
	for len(program) >= 2 {
		what, where := program[0], names[int(program[1])%len(names)]
		program = program[2:]
		flat := filepath.Join(dir, filepath.Base(where))
		// What can't be done is not done.
		switch what % 8 {
		case 0:
			_ = root.Mkdir(where, fs.FileMode(what)<<1&0777)
		case 1:
			_ = root.Symlink(targets[int(what>>3)%len(targets)], where)
		case 2:
			if f, err := root.OpenFile(where, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0666); err == nil {
				_, err = f.WriteString("planted")
				check(t, errors.Join(err, f.Close()))
			}
		case 3:
			_ = syscall.Mkfifo(flat, 0666)
		case 4:
			_ = os.Link(filepath.Join(canary, "token"), flat)
		case 5:
			_ = root.MkdirAll(filepath.Join(where, "a/b"), 0777)
		case 6:
			_ = root.Remove(where)
		case 7:
			_ = root.Rename(where, names[int(what>>3)%len(names)])
		}
	}
}

// FuzzPublishOverAnything publishes over arbitrary content: nothing outside
// changes, and the result is that of a fresh volume, and foreign names.
func FuzzPublishOverAnything(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{5, 0, 1, 1, 2, 2, 3, 3, 4, 2})
	f.Add([]byte{0, 6, 1, 0, 4, 9, 1, 10, 25, 2})
	f.Fuzz(func(t *testing.T, program []byte) {
		base := shm(t)
		dir, canary := filepath.Join(base, "volume"), newCanary(t, base)
		check(t, os.Mkdir(dir, 0755))
		plant(t, dir, canary, program)
		before := canaryHash(t, canary)
		r := publish(t, dir, payload("one"))
		if _, err := New(dir).Read(); err != nil {
			t.Error(err)
		}
		var got []string // without what is not ours
		for _, line := range tree(t, dir) {
			var mode, name string
			_, err := fmt.Sscan(line, &mode, &name)
			check(t, err)
			foreign := slices.ContainsFunc(r.Foreign, func(f string) bool {
				return name == f || len(name) > len(f) && name[:len(f)+1] == f+"/"
			})
			if !foreign {
				got = append(got, line)
			}
		}
		if want := published("one"); !slices.Equal(got, want) {
			t.Errorf("volume is\n%q\nwant\n%q", got, want)
		}
		if again := publish(t, dir, payload("one")); again.Changed {
			t.Error("publishing again changed it")
		}
		if canaryHash(t, canary) != before {
			t.Error("something outside the volume was changed")
		}
	})
}
