package atomicdir

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// replaceLink makes name a link to target, over whatever is there.
func replaceLink(dir int, name, target string) error {
	err := retry(func() error { return unix.Symlinkat(target, dir, name) })
	if errors.Is(err, unix.EEXIST) {
		if err := removeEntry(dir, name); err != nil {
			return err
		}
		err = retry(func() error { return unix.Symlinkat(target, dir, name) })
	}
	if err != nil {
		return fmt.Errorf("making link %s: %w", name, err)
	}
	return nil
}

// userLink is the target of a user-visible name's link.
func userLink(name string) string { return dataLink + "/" + name }

// link puts right what programs open.
func link(root int, files []File) error {
	last := ""
	for _, f := range files { // sorted, so equal first elements are neighbours or nearly so
		name := topLevel(f.Path)
		if name == last {
			continue
		}
		last = name
		target, err := readLink(root, name)
		if err != nil {
			return err
		}
		if target == userLink(name) {
			continue
		}
		if err := replaceLink(root, name, userLink(name)); err != nil {
			return err
		}
	}
	return nil
}

// clean removes what is the writer's own and no longer wanted. It goes on
// after an error and returns the first.
func clean(root int, files []File, current string) error {
	wanted := make(map[string]bool, len(files))
	for _, f := range files {
		wanted[topLevel(f.Path)] = true
	}
	names, err := listNames(root)
	if err != nil {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	var first error
	for _, name := range names {
		ours := false
		switch {
		case name == dataLinkTmp:
			ours = true
		case IsGeneration(name):
			ours = name != current
		case !strings.HasPrefix(name, reserved) && !wanted[name]:
			target, err := readLink(root, name)
			ours = err == nil && target == userLink(name)
		}
		if !ours {
			continue
		}
		if err := removeEntry(root, name); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Wipe removes everything in the volume, the published set first, and leaves
// the empty directory. A mount inside is not crossed and is an error.
func (d *Dir) Wipe() error {
	root, err := openVolume(d.path)
	if err != nil {
		return err
	}
	defer closeFD(root)
	if err := removeEntry(root, dataLink); err != nil { // at once gone for all readers
		return fmt.Errorf("wiping volume %s: %w", d.path, err)
	}
	if err := removeAllIn(root); err != nil {
		return fmt.Errorf("wiping volume %s: %w", d.path, err)
	}
	return nil
}
