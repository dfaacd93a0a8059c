package atomicdir

import (
	"path"
	"strings"
	"testing"
	"time"
)

func TestPrepare(t *testing.T) {
	long := strings.Repeat("a", maxName+1)
	tests := []struct {
		name  string
		paths []string
		want  string // part of the error; empty: valid
	}{
		{"plain", []string{"token", "ca.crt", "dir/file"}, ""},
		{"dots within", []string{"a..b", "...", "a/..b", ".hidden", "a/./b"}, "reserved"}, // "..." begins with ".."
		{"hidden", []string{".hidden", "a..b", "a/..b"}, ""},
		{"empty", []string{""}, "empty"},
		{"absolute", []string{"/etc/passwd"}, "absolute"},
		{"dot", []string{"."}, "volume itself"},
		{"dot after cleaning", []string{"./."}, "volume itself"},
		{"trailing slash", []string{"a/"}, ""},
		{"parent", []string{"../x"}, "element"},
		{"parent within", []string{"a/../../x"}, "element"},
		{"parent that cleans away", []string{"a/../x"}, "element"},
		{"reserved", []string{"..data"}, "reserved"},
		{"reserved after cleaning", []string{"./..data"}, "reserved"},
		{"nul", []string{"a\x00b"}, "NUL"},
		{"long name", []string{long}, "longer"},
		{"long path", []string{strings.Repeat("a/", 3000) + "a"}, "longer"},
		{"twice", []string{"a", "a"}, "two files"},
		{"twice after cleaning", []string{"a/b", "a//b"}, "two files"},
		{"file and directory", []string{"a", "a/b"}, "can't be a directory"},
		{"file and directory, others between", []string{"a", "a-b", "a/b/c"}, "can't be a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var files []File
			for _, p := range tt.paths {
				files = append(files, File{Path: p})
			}
			_, err := prepare(files)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("prepare() = %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("prepare() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, p := range []string{"token", "./..data", "a/../b", "a//b", "..", "\x00", "/"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		clean, err := cleanPath(p)
		if err != nil {
			return
		}
		again, err := cleanPath(clean)
		switch {
		case err != nil || again != clean:
			t.Errorf("cleanPath(%q) = %q, which is not clean itself: %q, %v", p, clean, again, err)
		case path.IsAbs(clean) || strings.HasPrefix(clean, ".."):
			t.Errorf("cleanPath(%q) = %q leaves the volume or is reserved", p, clean)
		}
	})
}

func TestIsGeneration(t *testing.T) {
	for name, want := range map[string]bool{
		"..2026_11_22_17_30_00.1":                    true,
		"..2026_11_22_17_30_00.4294967295":           true,
		"..2026_11_22_17_30_00.12345678901234567890": true,
		newGeneration(time.Now()):                    true,
		"":                                           false,
		"..":                                         false,
		"..data":                                     false,
		"..2026_11_22_17_30_00.":                     false,
		"..2026_11_22_17_30_00.x":                    false,
		"..2026_11_22_17_30_00.1x":                   false,
		"..2026_11_22_17_30_00.123456789012345678901": false,
		"..2026-11_22_17_30_00.1":                     false,
		"..2026_11_22_17_30_0a.1":                     false,
		"../026_11_22_17_30_00.1":                     false,
		"..2026_11_22_17_30_00/1":                     false,
		".a2026_11_22_17_30_00.1":                     false,
	} {
		if IsGeneration(name) != want {
			t.Errorf("IsGeneration(%q) = %v, want %v", name, !want, want)
		}
	}
}

// TestGenerationsAreInOrder also within a second.
func TestGenerationsAreInOrder(t *testing.T) {
	at := time.Date(2026, 11, 22, 17, 30, 0, 9, time.UTC)
	last := newGeneration(at)
	for range 100 {
		at = at.Add(time.Second/7 + time.Nanosecond)
		next := newGeneration(at)
		if next <= last || !IsGeneration(next) {
			t.Errorf("%s comes after %s", next, last)
		}
		last = next
	}
	if same := newGeneration(at); same == last {
		t.Error("two of one moment have one name")
	}
}
