package atomicdir

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// damage is what a crash left or a workload planted in a volume.
type damage struct {
	name string
	do   func(t *testing.T, dir, canary string)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func damages() []damage {
	at := filepath.Join
	replaceBy := func(name string, how func(path, canary string) error) func(*testing.T, string, string) {
		return func(t *testing.T, dir, canary string) {
			check(t, os.RemoveAll(at(dir, name)))
			check(t, how(at(dir, name), canary))
		}
	}
	file := func(p, _ string) error { return os.WriteFile(p, []byte("planted"), 0666) }
	fifo := func(p, _ string) error { return syscall.Mkfifo(p, 0666) }
	outside := func(p, canary string) error { return os.Symlink(canary, p) }
	dangling := func(p, _ string) error { return os.Symlink("nowhere", p) }
	fullDir := func(p, _ string) error {
		if err := os.MkdirAll(at(p, "a", "b"), 0777); err != nil {
			return err
		}
		return os.WriteFile(at(p, "a", "file"), nil, 0666)
	}
	inGeneration := func(do func(gen, canary string) error) func(*testing.T, string, string) {
		return func(t *testing.T, dir, canary string) {
			gen, err := os.Readlink(at(dir, dataLink))
			check(t, err)
			check(t, do(at(dir, gen), canary))
		}
	}
	out := []damage{
		{"none", func(*testing.T, string, string) {}},
		{"..data missing", func(t *testing.T, dir, _ string) { check(t, os.Remove(at(dir, dataLink))) }},
		{"orphaned generations", func(t *testing.T, dir, canary string) {
			check(t, fullDir(at(dir, "..2020_01_01_00_00_00.1"), ""))
			check(t, os.Symlink(canary, at(dir, "..2020_01_01_00_00_00.2")))
			check(t, file(at(dir, "..2020_01_01_00_00_00.3"), ""))
		}},
		{"..data names a generation that is a link to elsewhere", func(t *testing.T, dir, canary string) {
			check(t, os.Symlink(canary, at(dir, "..2020_01_01_00_00_00.1")))
			check(t, os.Remove(at(dir, dataLink)))
			check(t, os.Symlink("..2020_01_01_00_00_00.1", at(dir, dataLink)))
		}},
		{"..data climbs out", replaceBy(dataLink, func(p, canary string) error {
			return os.Symlink("../"+filepath.Base(canary), p)
		})},
		{"user-visible name missing", func(t *testing.T, dir, _ string) { check(t, os.Remove(at(dir, "token"))) }},
		{"obsolete link", func(t *testing.T, dir, _ string) { check(t, os.Symlink("..data/gone", at(dir, "gone"))) }},
		{"content changed", inGeneration(func(gen, _ string) error { return os.WriteFile(at(gen, "token"), []byte("forged"), 0600) })},
		{"mode changed", inGeneration(func(gen, _ string) error { return os.Chmod(at(gen, "token"), 0666) })},
		{"directory mode changed", inGeneration(func(gen, _ string) error { return os.Chmod(at(gen, "dir"), 0777) })},
		{"owner changed", inGeneration(func(gen, _ string) error { return giveAway(at(gen, "token")) })},
		{"owner of a directory changed", inGeneration(func(gen, _ string) error { return giveAway(at(gen, "dir")) })},
		{"directory added", inGeneration(func(gen, _ string) error { return os.Mkdir(at(gen, "more"), 0755) })},
		{"file removed", inGeneration(func(gen, _ string) error { return os.Remove(at(gen, "token")) })},
		{"file added", inGeneration(func(gen, _ string) error { return file(at(gen, "more"), "") })},
		{"file is a link to elsewhere", inGeneration(func(gen, canary string) error {
			if err := os.Remove(at(gen, "token")); err != nil {
				return err
			}
			return os.Symlink(at(canary, "file"), at(gen, "token"))
		})},
		{"file is a FIFO", inGeneration(func(gen, canary string) error {
			if err := os.Remove(at(gen, "token")); err != nil {
				return err
			}
			return fifo(at(gen, "token"), canary)
		})},
		{"file is a hard link to elsewhere", inGeneration(func(gen, canary string) error {
			if err := os.Remove(at(gen, "token")); err != nil {
				return err
			}
			return os.Link(at(canary, "file"), at(gen, "token"))
		})},
	}
	for _, name := range []string{dataLink, dataLinkTmp, "token", "dir"} {
		for kind, how := range map[string]func(string, string) error{
			"a file": file, "a FIFO": fifo, "a directory": fullDir, "a link elsewhere": outside, "a dangling link": dangling,
		} {
			out = append(out, damage{name + " is " + kind, replaceBy(name, how)})
		}
	}
	return out
}

// giveAway changes a file's owner, if this user may.
func giveAway(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, 1234, 5678)
}

// assertOwn expects everything in a volume to belong to this process's user.
func assertOwn(t *testing.T, dir string) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			t.Errorf("%s belongs to user %d", p, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	}))
}

// TestPublishHeals damages a published volume in each way, and expects the
// next publish, of the same payload and of another one, to leave exactly what
// a fresh volume has, and the world outside untouched.
func TestPublishHeals(t *testing.T) {
	for _, d := range damages() {
		for _, token := range []string{"one", "two"} {
			t.Run(d.name+", then token "+token, func(t *testing.T) {
				base := t.TempDir()
				dir, canary := filepath.Join(base, "volume"), filepath.Join(base, "canary")
				check(t, os.Mkdir(dir, 0755))
				check(t, os.Mkdir(canary, 0755))
				check(t, os.WriteFile(filepath.Join(canary, "file"), []byte("one"), 0600))
				before := inodes(t, canary)

				publish(t, dir, payload("one"))
				d.do(t, dir, canary)
				publish(t, dir, payload(token))
				assertTree(t, dir, published(token))
				assertOwn(t, dir)
				if r := publish(t, dir, payload(token)); r.Changed {
					t.Error("a healed volume is not stable: publishing again changed it")
				}

				if after := inodes(t, canary); d.name != "file is a hard link to elsewhere" && !slices.Equal(before, after) {
					t.Errorf("outside changed:\n%v\n%v", before, after)
				}
				if b, err := os.ReadFile(filepath.Join(canary, "file")); err != nil || string(b) != "one" {
					t.Errorf("outside file is %q, %v", b, err)
				}
			})
		}
	}
}

// TestPublishOverWhatCanNotBeRead publishes over files that this user may not
// read, such as ones that were given away.
func TestPublishOverWhatCanNotBeRead(t *testing.T) {
	dir := t.TempDir()
	files := []File{{Path: "token", Data: []byte("one"), Mode: 0}}
	publish(t, dir, files)
	files[0].Data = []byte("two")
	if r := publish(t, dir, files); !r.Changed {
		t.Error("other content is no change")
	}
}

func TestFileNeverShowsItsContent(t *testing.T) {
	f := File{Path: "token", Data: []byte("secret"), Mode: 0600}
	var out bytes.Buffer
	for _, v := range []any{f, &f, []File{f}, Set{Files: []File{f}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			fmt.Fprintf(&out, verb, v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
	}
	for _, form := range []string{"secret", "c2VjcmV0", "736563726574", "115 101"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("a file's content is shown as %q in\n%s", form, &out)
		}
	}
}

func TestForeignNamesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, payload("one"))
	check(t, os.Mkdir(filepath.Join(dir, "nested-mount-point"), 0755))
	check(t, os.Symlink("/elsewhere", filepath.Join(dir, "theirs")))
	publish(t, dir, payload("two"))
	want := append(published("two"), "drwxr-xr-x nested-mount-point", "Lrwxrwxrwx theirs -> /elsewhere")
	slices.Sort(want)
	assertTree(t, dir, want)
}

func TestWipe(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, payload("one"))
	check(t, os.MkdirAll(filepath.Join(dir, "theirs", "deep"), 0755))
	check(t, New(dir).Wipe())
	assertTree(t, dir, nil)
}

func TestNothingCrossesAMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	base := t.TempDir()
	dir, outside := filepath.Join(base, "volume"), filepath.Join(base, "outside")
	check(t, os.Mkdir(dir, 0755))
	check(t, os.Mkdir(outside, 0755))
	check(t, os.WriteFile(filepath.Join(outside, "file"), []byte("theirs"), 0644))
	publish(t, dir, payload("one"))
	inside := filepath.Join(dir, "..2020_01_01_00_00_00.1", "deep")
	check(t, os.MkdirAll(inside, 0755))
	if err := syscall.Mount(outside, inside, "", syscall.MS_BIND, ""); err != nil {
		t.Skip("this machine does not let root mount: ", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(inside, 0)) })

	if _, err := New(dir, WithGrace(0)).Publish(payload("two")); err == nil || !strings.Contains(err.Error(), "2020_01_01") {
		t.Errorf("publish beside a mount in a leftover: %v, want an error that names it", err)
	}
	if set, err := New(dir).Read(); err != nil || string(set.Files[len(set.Files)-1].Data) != "two" {
		t.Errorf("the new set was not published: %v, %v", set, err)
	}
	if err := New(dir).Wipe(); err == nil {
		t.Error("wiping a volume with a mount inside reports no error")
	}
	if b, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(b) != "theirs" {
		t.Errorf("outside file is %q, %v", b, err)
	}
}
