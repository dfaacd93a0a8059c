package tokenfile

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPlaces(t *testing.T) {
	link := func(target, name string) func(string) error {
		return func(dir string) error { return os.Symlink(target, filepath.Join(dir, name)) }
	}
	mkdir := func(name string) func(string) error {
		return func(dir string) error { return os.MkdirAll(filepath.Join(dir, name), 0700) }
	}
	for _, tt := range []struct {
		name, path string
		make       []func(dir string) error
		want       []place
		volume     bool
	}{
		{"a plain file", "token", nil, []place{{".", "token"}}, false},
		{"nothing on the way", "a/b/token", nil, []place{{".", "a"}}, false},
		{"half of the way", "a/b/token", []func(string) error{mkdir("a")}, []place{{"a", "b"}}, false},
		{"a volume", "token", []func(string) error{link("..data/token", "token")}, []place{{".", dataLink}, {".", "token"}}, true},
		{"a directory of a volume", "v/sub/token", []func(string) error{mkdir("v/..1/sub"), func(dir string) error {
			return os.Symlink("..1", filepath.Join(dir, "v/..data"))
		}, func(dir string) error {
			return os.Symlink("..data/sub", filepath.Join(dir, "v/sub"))
		}}, []place{{"v", dataLink}, {"v", "sub"}}, true},
		{"..data itself", "..data/token", nil, []place{{".", dataLink}, {".", dataLink}}, true},
		{"a link to a plain file", "token", []func(string) error{mkdir("a"), link("a/b", "token")}, []place{{".", "token"}, {"a", "b"}}, false},
		{"a link into a volume", "mine", []func(string) error{mkdir("v"), link("v/token", "mine"), func(dir string) error {
			return os.Symlink("..data/token", filepath.Join(dir, "v/token"))
		}}, []place{{".", "mine"}, {"v", dataLink}, {"v", "token"}}, true},
		{"a link among the directories", "l/token", []func(string) error{mkdir("a"), link("a", "l")}, []place{{"a", "token"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range tt.make {
				if err := f(dir); err != nil {
					t.Fatal(err)
				}
			}
			for i, p := range tt.want {
				tt.want[i].dir = filepath.Join(dir, p.dir)
			}
			got, volume := places(filepath.Join(dir, tt.path))
			if !slices.Equal(got, tt.want) || volume != tt.volume {
				t.Errorf("%v %v, want %v %v", got, volume, tt.want, tt.volume)
			}
		})
	}
	t.Run("links in a ring", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Symlink("token", filepath.Join(dir, "token")); err != nil {
			t.Fatal(err)
		}
		if got, _ := places(filepath.Join(dir, "token")); len(got) != maxLinks {
			t.Errorf("%d places", len(got))
		}
	})
}
