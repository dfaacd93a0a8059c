package atomicdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func payload(token string) []File {
	return []File{
		{Path: "token", Data: []byte(token), Mode: 0600, ModTime: time.Unix(1_800_000_000, 5)},
		{Path: "ca.crt", Data: []byte("certificate"), Mode: 0644},
		{Path: "dir/sub/file", Data: []byte("deep"), Mode: 0440},
		{Path: "dir/empty", Mode: 0644},
	}
}

func publish(t *testing.T, dir string, files []File, options ...Option) Result {
	t.Helper()
	r, err := New(dir, append([]Option{WithGrace(0)}, options...)...).Publish(files)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tree lists a volume: name, mode and target or content, with the current
// generation's name replaced by GEN.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	current, _ := os.Readlink(filepath.Join(dir, dataLink))
	var out []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		line := fmt.Sprintf("%s %s", info.Mode(), rel)
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + target
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " = " + string(b)
		}
		if current != "" {
			line = strings.ReplaceAll(line, current, "GEN")
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// published is the tree of payload(token) and nothing else.
func published(token string) []string {
	out := []string{
		"Lrwxrwxrwx ..data -> GEN",
		"Lrwxrwxrwx ca.crt -> ..data/ca.crt",
		"Lrwxrwxrwx dir -> ..data/dir",
		"Lrwxrwxrwx token -> ..data/token",
		"drwxr-xr-x GEN",
		"drwxr-xr-x GEN/dir",
		"drwxr-xr-x GEN/dir/sub",
		"-r--r----- GEN/dir/sub/file = deep",
		"-rw-r--r-- GEN/dir/empty = ",
		"-rw-r--r-- GEN/ca.crt = certificate",
		"-rw------- GEN/token = " + token,
	}
	slices.Sort(out)
	return out
}

func assertTree(t *testing.T, dir string, want []string) {
	t.Helper()
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("volume is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestPublishWritesTheKubeletsLayout(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0077)) // modes are exact whatever the umask
	dir := t.TempDir()
	r := publish(t, dir, payload("one"))
	if !r.Changed || !IsGeneration(r.Generation) {
		t.Errorf("result %+v", r)
	}
	assertTree(t, dir, published("one"))
	info, err := os.Stat(filepath.Join(dir, "token"))
	if err != nil || !info.ModTime().Equal(time.Unix(1_800_000_000, 5)) {
		t.Errorf("token's time is %v, %v", info.ModTime(), err)
	}
}

func TestPublishAgain(t *testing.T) {
	tests := []struct {
		name    string
		mutate  func([]File) []File
		changed bool
	}{
		{"the same", func(f []File) []File { return f }, false},
		{"in another order", func(f []File) []File { slices.Reverse(f); return f }, false},
		{"other time", func(f []File) []File { f[0].ModTime = time.Now(); return f }, false},
		{"other content", func(f []File) []File { f[0].Data = []byte("two"); return f }, true},
		{"other mode", func(f []File) []File { f[0].Mode = 0640; return f }, true},
		{"a file more", func(f []File) []File { return append(f, File{Path: "new", Mode: 0644}) }, true},
		{"a file less", func(f []File) []File { return f[1:] }, true},
		{"nothing left", func([]File) []File { return nil }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			first := publish(t, dir, payload("one"))
			before := inodes(t, dir)
			files := tt.mutate(payload("one"))
			second := publish(t, dir, files)
			if second.Changed != tt.changed || (first.Generation != second.Generation) != tt.changed {
				t.Errorf("results %+v and %+v, want changed %v", first, second, tt.changed)
			}
			if after := inodes(t, dir); !tt.changed && !slices.Equal(before, after) {
				t.Errorf("an unchanged payload changed the volume:\n%v\n%v", before, after)
			}
			fresh := t.TempDir()
			publish(t, fresh, files)
			assertTree(t, dir, tree(t, fresh))
		})
	}
}

// inodes lists each inode with its times.
func inodes(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			return err
		}
		out = append(out, fmt.Sprint(p, st.Ino, st.Mtim, st.Ctim))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPublishSetsOwnersAndGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	dir := t.TempDir()
	files := []File{{Path: "d/token", Data: []byte("t"), Mode: 0640, Owner: &Owner{UID: 1234, GID: -1}}}
	publish(t, dir, files, WithGroup(5678))
	for _, name := range []string{"", "/..data", "/..data/", "/..data/d", "/d", "/d/token"} {
		var st syscall.Stat_t
		if err := syscall.Lstat(dir+name, &st); err != nil {
			t.Fatal(err)
		}
		if st.Gid != 5678 {
			t.Errorf("%q belongs to group %d, want 5678", name, st.Gid)
		}
		if st.Mode&syscall.S_IFMT == syscall.S_IFDIR && st.Mode&02550 != 02550 {
			t.Errorf("directory %q has mode %o, want setgid and r-x for owner and group", name, st.Mode)
		}
		if name == "/d/token" && st.Uid != 1234 {
			t.Errorf("%q belongs to user %d, want 1234", name, st.Uid)
		}
	}
	if r := publish(t, dir, files, WithGroup(5678)); r.Changed {
		t.Error("the same owners are a change")
	}
	files[0].Owner.UID = 4321
	if r := publish(t, dir, files, WithGroup(5678)); !r.Changed {
		t.Error("another owner is no change")
	}
}

func TestReadReturnsWhatWasPublished(t *testing.T) {
	dir := t.TempDir()
	if set, err := New(dir).Read(); err != nil || set.Generation != "" || len(set.Files) != 0 {
		t.Fatalf("nothing published: %+v, %v", set, err)
	}
	r := publish(t, dir, payload("one"))
	set, err := New(dir).Read()
	if err != nil {
		t.Fatal(err)
	}
	want, err := prepare(payload("one"))
	if err != nil {
		t.Fatal(err)
	}
	if set.Generation != r.Generation || !slices.EqualFunc(set.Files, want, func(a, b File) bool { return a.Path == b.Path && New(dir).same(a, b) }) {
		t.Errorf("read %+v", set)
	}
	if f, ok := set.File("token"); !ok || !f.ModTime.Equal(time.Unix(1_800_000_000, 5)) {
		t.Errorf("token read back as %+v", f)
	}
	if _, err := New(filepath.Join(dir, "absent")).Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a volume that does not exist: %v", err)
	}
}
