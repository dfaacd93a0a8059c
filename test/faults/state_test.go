//go:build faults

package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/test/faults/scenario"
)

// contents reads all files below a directory; nil if there is none.
func contents(dir string) (map[string]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		out[rel] = string(b)
		return err
	})
	return out, err
}

// holds says whether contents are exactly a set.
func holds(have map[string]string, want []atomicdir.File) bool {
	if want == nil || have == nil {
		return want == nil && have == nil
	}
	for _, f := range want {
		if text, ok := have[f.Path]; !ok || text != string(f.Data) {
			return false
		}
	}
	return len(have) == len(want)
}

// checkReaders says what is wrong with what readers see after a fault. only is
// the set that it must be, if that is known; nil with anySet: old or new.
func checkReaders(dir string, s scenario.Scenario, acted bool) error {
	have, err := contents(filepath.Join(dir, "..data"))
	if s.Name == "heal-data" && err == nil && have != nil && !holds(have, s.New) {
		have = nil // what was planted in the place of ..data
	}
	switch {
	case err != nil:
		return fmt.Errorf("reading ..data: %w", err)
	case acted && !holds(have, s.New):
		return fmt.Errorf("it reported success, and readers have %q", have)
	case !holds(have, s.Old) && !holds(have, s.New):
		return fmt.Errorf("readers have neither the old nor the new set: %q", have)
	case s.Damaged:
		return nil
	}
	// By the names that programs open: what was readable stays so, unless it
	// is to go, and is of the same set.
	for _, f := range s.Old {
		if !slices.ContainsFunc(s.New, func(n atomicdir.File) bool { return n.Path == f.Path }) {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(dir, f.Path)); err != nil || string(b) != have[f.Path] {
			return fmt.Errorf("reading %s gives %q, %w; want %q", f.Path, b, err, have[f.Path])
		}
	}
	return nil
}

// checkRecovered says what differs from a volume in which nothing ever
// happened but one publish of the new set.
func checkRecovered(dir string, s scenario.Scenario) error {
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "fresh-")
	if err != nil {
		return err
	}
	if _, err := s.Dir(fresh).Publish(s.New); err != nil {
		return err
	}
	want, err := listing(fresh)
	if err != nil {
		return err
	}
	have, err := listing(dir)
	if err != nil {
		return err
	}
	if !slices.Equal(have, want) {
		return fmt.Errorf("after recovery the volume is\n  %s\nwant\n  %s", strings.Join(have, "\n  "), strings.Join(want, "\n  "))
	}
	return nil
}

// listing is a volume's tree with modes and targets, the current generation's
// name aside.
func listing(dir string) ([]string, error) {
	current, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		return nil, err
	}
	var out []string
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir || strings.HasPrefix(p, filepath.Join(dir, "theirs")) {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String() + " " + p[len(dir):]
		if target, err := os.Readlink(p); err == nil {
			line += " -> " + target
		}
		out = append(out, strings.ReplaceAll(line, current, "GENERATION"))
		return nil
	})
	slices.Sort(out)
	return out, err
}
