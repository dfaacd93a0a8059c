// Command api compares the public Go packages of a module with a listing of them
// that was committed, by golang.org/x/exp/apidiff. It fails on each difference:
// on one that breaks who imports the packages, and on what was added, because
// nothing guards it until the listing has it.
//
// The listing is Go source without bodies, and not the export data that the
// apidiff command writes: that has the directory and the line of each
// declaration, is 300 KB, and nobody can review it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/exp/apidiff"
	"golang.org/x/tools/go/packages"
)

func main() {
	dir := flag.String("module", ".", "the module's `directory`")
	file := flag.String("baseline", "baseline.txt", "the `file` with the listing")
	update := flag.Bool("update", false, "write the listing first")
	flag.Parse()
	if err := run(*dir, *file, *update, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

// run is main without the process around it.
func run(dir, file string, update bool, out io.Writer) error {
	current, err := loadPublic(dir)
	if err != nil {
		return err
	}
	now, err := list(current.Packages)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(file)
	if update && errors.Is(err, os.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("reading the baseline (`make api-baseline` writes it): %w", err)
	}
	broken, added, err := compare(dir, old, current)
	if err != nil {
		return err
	}
	report(out, "Breaks who imports the packages:", broken)
	report(out, "Added:", added)
	if update {
		return write(dir, file, now, current)
	}
	name := filepath.Base(file)
	switch {
	case len(broken) > 0:
		return fmt.Errorf("the public packages no longer fit %s: undo what breaks, or, if it is meant and docs/stability.md allows it, run `make api-baseline` and say in the commit what breaks", name)
	case len(added) > 0:
		return fmt.Errorf("%s lacks what was added, so nothing guards that: run `make api-baseline` and commit it", name)
	case !bytes.Equal(old, now):
		return fmt.Errorf("%s is not current, but nothing breaks: run `make api-baseline` and commit it", name)
	}
	return nil
}

// write writes a listing that, read again, is what the packages are. Otherwise
// it would hide changes.
func write(dir, file string, listing []byte, current *apidiff.Module) error {
	broken, added, err := compare(dir, listing, current)
	if err != nil {
		return err
	}
	if lost := slices.Concat(broken, added); len(lost) > 0 {
		return fmt.Errorf("the listing would not be the same API, so tools/api must learn to write it:\n%s", strings.Join(lost, "\n"))
	}
	return os.WriteFile(file, listing, 0o644)
}

// compare returns what apidiff says of the way from a listing to the packages.
func compare(dir string, listing []byte, current *apidiff.Module) (broken, added []string, err error) {
	old, broken, err := read(dir, listing)
	if err != nil {
		return nil, nil, err
	}
	changes := apidiff.ModuleChanges(&apidiff.Module{Path: current.Path, Packages: old}, current).Changes
	for _, c := range changes {
		if c.Compatible {
			added = append(added, c.Message)
		} else {
			broken = append(broken, c.Message)
		}
	}
	return broken, added, nil
}

func report(out io.Writer, heading string, changes []string) {
	if len(changes) > 0 {
		_, _ = fmt.Fprintf(out, "%s\n  %s\n", heading, strings.Join(changes, "\n  "))
	}
}

// loadPublic loads the packages of a module that others can import.
func loadPublic(dir string) (*apidiff.Module, error) {
	all, err := load(dir, "./...")
	if err != nil {
		return nil, err
	}
	var m apidiff.Module
	for _, p := range all {
		if len(p.Errors) > 0 {
			return nil, fmt.Errorf("loading %s: %w", p.PkgPath, p.Errors[0])
		}
		m.Path = p.Module.Path
		if p.Name != "main" && !slices.Contains(strings.Split(p.PkgPath, "/"), "internal") {
			m.Packages = append(m.Packages, p.Types)
		}
	}
	return &m, nil
}

func load(dir string, patterns ...string) ([]*packages.Package, error) {
	all, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedModule,
		Dir:  dir,
		// The same answer on every machine. Nothing that others use depends on it.
		Env: append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "GOWORK=off"),
	}, patterns...)
	if err != nil {
		return nil, fmt.Errorf("loading packages: %w", err)
	}
	slices.SortFunc(all, func(a, b *packages.Package) int { return strings.Compare(a.PkgPath, b.PkgPath) })
	return all, nil
}
