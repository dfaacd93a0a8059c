// Package scenario lists what the crash tests do to a volume: how it is before,
// what is done, and what readers may see meanwhile and after.
package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// Scenario is one thing that is done to a volume.
type Scenario struct {
	Name    string
	Options []atomicdir.Option
	// Setup makes the volume as it is before, in another process.
	Setup func(dir string) error
	// Before is done by the same process and the same Dir as Act.
	Before func(d *atomicdir.Dir) error
	// Act is what is interrupted.
	Act func(d *atomicdir.Dir) error
	// Old and New are the sets that readers may see, no other; nil is none.
	Old, New []atomicdir.File
	// Damaged says that user-visible names are not right before.
	Damaged bool
}

// A and B are sets that differ in every file and have one name each that the
// other has not.
var (
	A = set("a", "only-in-a")
	B = set("b", "only-in-b", "dir/only-in-b")

	more = set("a", "only-in-a", "more", "more-dir/file", "dir/more")
)

func set(content string, more ...string) []atomicdir.File {
	files := []atomicdir.File{
		{Path: "token", Data: []byte("token " + content), Mode: 0600, ModTime: time.Unix(1_800_000_000, 0)},
		{Path: "ca.crt", Data: []byte("ca " + content), Mode: 0644},
		{Path: "dir/sub/file", Data: []byte("file " + content), Mode: 0440, Owner: &atomicdir.Owner{UID: os.Geteuid(), GID: -1}},
	}
	for _, path := range more {
		files = append(files, atomicdir.File{Path: path, Data: []byte(content), Mode: 0644})
	}
	return files
}

func publish(files []atomicdir.File) func(*atomicdir.Dir) error {
	return func(d *atomicdir.Dir) error {
		_, err := d.Publish(files)
		return err
	}
}

func published(files []atomicdir.File) func(string) error {
	return func(dir string) error { return publish(files)(atomicdir.New(dir, atomicdir.WithGrace(0))) }
}

// damaged publishes and then spoils the volume.
func damaged(files []atomicdir.File, spoil ...func(dir string) error) func(string) error {
	return func(dir string) error {
		err := published(files)(dir)
		for _, s := range spoil {
			err = errors.Join(err, s(dir))
		}
		return err
	}
}

// tree puts a directory with something in it in the place of a name.
func tree(name string) func(string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		return errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Join(path, "a/b"), 0755),
			os.WriteFile(filepath.Join(path, "a/file"), []byte("planted"), 0666))
	}
}

func link(name, target string) func(string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		return errors.Join(os.RemoveAll(path), os.Symlink(target, path))
	}
}

const orphan = "..2020_01_01_00_00_00.1"

// All are the scenarios. There is no grace where they don't say so.
var All = []Scenario{
	{Name: "first", Act: publish(A), New: A},
	{Name: "change", Before: publish(A), Act: publish(B), Old: A, New: B},
	{Name: "change-after-restart", Setup: published(A), Act: publish(B), Old: A, New: B},
	{Name: "change-with-grace", Options: []atomicdir.Option{atomicdir.WithGrace(time.Hour)}, Before: publish(A), Act: publish(B), Old: A, New: B},
	{Name: "change-synced", Options: []atomicdir.Option{atomicdir.WithSync()}, Before: publish(A), Act: publish(B), Old: A, New: B},
	{Name: "change-with-group", Options: []atomicdir.Option{atomicdir.WithGroup(os.Getegid())}, Setup: published(A), Act: publish(B), Old: A, New: B},
	{Name: "paths-removed", Before: publish(more), Act: publish(A), Old: more, New: A},
	{Name: "unchanged", Before: publish(A), Act: publish(A), Old: A, New: A},
	{Name: "emptied", Before: publish(A), Act: publish(nil), Old: A, New: []atomicdir.File{}},
	{
		Name: "heal-leftovers", Old: A, New: B, Act: publish(B),
		Setup: damaged(A, tree("..data_tmp"), tree(orphan), link("obsolete", "..data/obsolete")),
	},
	{
		Name: "heal-stale-link", Old: A, New: B, Act: publish(B),
		Setup: damaged(A, link("..data_tmp", orphan)),
	},
	{
		Name: "heal-names", Old: A, New: A, Act: publish(A), Damaged: true,
		Setup: damaged(A, tree("token"), link("ca.crt", "/etc/passwd"), func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "dir")), syscall.Mkfifo(filepath.Join(dir, "dir"), 0666))
		}),
	},
	{Name: "heal-data", New: A, Act: publish(A), Damaged: true, Setup: damaged(A, tree("..data"))},
	{
		// A grace this short is over by the next call, and not within one.
		Name: "sweep", Options: []atomicdir.Option{atomicdir.WithGrace(1)}, Old: B, New: B,
		Before: func(d *atomicdir.Dir) error { return errors.Join(publish(A)(d), publish(B)(d)) },
		Act:    sweep,
	},
	{
		Name: "sweep-after-restart", Options: []atomicdir.Option{atomicdir.WithGrace(0)}, Old: B, New: B,
		Setup: damaged(B, tree(orphan)), Act: sweep,
	},
	{Name: "teardown", Old: A, Setup: damaged(A, tree("theirs")), Act: (*atomicdir.Dir).Wipe},
}

func sweep(d *atomicdir.Dir) error {
	_, err := d.Sweep()
	return err
}

// Find returns the scenario of a name.
func Find(name string) (Scenario, error) {
	for _, s := range All {
		if s.Name == name {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("no scenario is named %q", name)
}

// Dir is the scenario's writer for a volume.
func (s Scenario) Dir(dir string) *atomicdir.Dir {
	return atomicdir.New(dir, append([]atomicdir.Option{atomicdir.WithGrace(0)}, s.Options...)...)
}
