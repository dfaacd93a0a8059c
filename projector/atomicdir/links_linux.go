package atomicdir

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// currentGeneration is what "..data" names, or "" if that is no generation.
func currentGeneration(root int) (string, error) {
	name, err := readLink(root, dataLink)
	if err != nil || !IsGeneration(name) {
		return "", err
	}
	return name, nil
}

// readLink returns a link's target, or "" if name is no link or does not
// exist.
func readLink(dir int, name string) (string, error) {
	// Longer than any target that the writer makes; a cut-off target is none
	// of ours either way.
	var buf [maxName + len(dataLink) + 2]byte
	var n int
	err := retry(func() (err error) {
		n, err = unix.Readlinkat(dir, name, buf[:])
		return err
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading link %s: %w", name, err)
	}
	return string(buf[:n]), nil
}

// replaceLink makes name a link to target, over whatever is there.
func replaceLink(root int, name, target string) error {
	symlink := func() error { return unix.Symlinkat(target, root, name) }
	err := retry(symlink)
	if errors.Is(err, unix.EEXIST) {
		if err := remove(root, root, name); err != nil {
			return err
		}
		err = retry(symlink)
	}
	if err != nil {
		return fmt.Errorf("making link %s: %w", name, err)
	}
	return nil
}

// userLink is the target of a user-visible name's link.
func userLink(name string) string { return dataLink + "/" + name }

// link puts right what programs open.
func link(root int, top []string) error {
	for _, name := range top {
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

// removeObsolete removes from among a volume's entries the links of files that
// are no longer in the set, and what an interrupted swap left. It returns the
// names that are not the writer's, goes on after an error and returns the first.
func removeObsolete(root int, entries []entry, top []string) (foreign []string, first error) {
	for _, e := range entries {
		name := e.name
		if name == dataLink || IsGeneration(name) {
			continue
		}
		if _, wanted := slices.BinarySearch(top, name); wanted {
			continue
		}
		obsolete := name == dataLinkTmp
		if !obsolete {
			target, err := readLink(root, name)
			obsolete = err == nil && target == userLink(name)
		}
		if !obsolete {
			foreign = append(foreign, name)
			continue
		}
		if err := remove(root, root, name); err != nil && first == nil {
			first = err
		}
	}
	slices.Sort(foreign)
	return foreign, first
}
