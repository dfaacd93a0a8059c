package atomicdir

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// currentGeneration is what "..data" names, or "" if that is no generation.
func currentGeneration(root int) (string, error) {
	var buf linkTarget
	target, err := readLink(root, dataLink, &buf)
	if name := string(target); err == nil && IsGeneration(name) {
		return name, nil
	}
	return "", err
}

// linkTarget holds more than any target that the writer makes; a cut-off one
// is none of ours either way.
type linkTarget [maxName + len(dataLink) + 2]byte

// readLink returns a link's target, in buf; it is empty if name is no link or
// does not exist.
func readLink(dir int, name string, buf *linkTarget) ([]byte, error) {
	var n int
	err := retry(func() (err error) {
		n, err = unix.Readlinkat(dir, name, buf[:])
		return err
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading link %s: %w", name, err)
	}
	return buf[:n], nil
}

// isUserLink says whether name is a link that leads through "..data" to the
// file or directory of that name.
func isUserLink(root int, name string) (bool, error) {
	var buf linkTarget
	target, err := readLink(root, name, &buf)
	return string(target) == userLink(name), err
}

// replaceLink makes name a link to target, over whatever is there.
func replaceLink(root int, name, target string) error {
	symlink := func() error { return unix.Symlinkat(target, root, name) }
	err := retry(symlink)
	if errors.Is(err, unix.EEXIST) {
		if err := setAside(root, name); err != nil {
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

// link puts right what programs open. It goes on after an error and returns
// the first.
func (d *Dir) link(root int, top []string) (first error) {
	for _, name := range top {
		right, err := isUserLink(root, name)
		if err == nil && !right && !d.isMountPoint(name) {
			err = replaceLink(root, name, userLink(name))
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

// maxForeign is how many names that are not the writer's are reported.
const maxForeign = 16

// removeObsolete removes from among a volume's entries the links of files that
// are no longer in the set, and what an interrupted swap left. It returns names
// that are not the writer's, goes on after an error and returns the first.
func (d *Dir) removeObsolete(root int, entries []entry, top []string) (foreign []string, first error) {
	for _, e := range entries {
		name := e.name
		if name == dataLink || IsGeneration(name) {
			continue
		}
		if _, wanted := slices.BinarySearch(top, name); wanted {
			continue
		}
		ours := name == dataLinkTmp
		err := error(nil)
		if !ours {
			ours, err = isUserLink(root, name)
		}
		switch {
		case err != nil:
		case !ours && d.isMountPoint(name):
		case !ours && len(foreign) < maxForeign:
			foreign = append(foreign, name)
		case name == dataLinkTmp:
			err = remove(root, root, name)
		case ours:
			err = removeLink(root, name)
		}
		if err != nil && first == nil {
			first = err
		}
	}
	slices.Sort(foreign)
	return foreign, first
}

// removeLink removes a name, but no directory that was put there since.
func removeLink(root int, name string) error {
	if err := unlink(root, name); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing obsolete %s: %w", name, err)
	}
	return nil
}

// isMountPoint says whether name is the first element of one.
func (d *Dir) isMountPoint(name string) bool {
	return slices.ContainsFunc(d.mountPoints, func(p string) bool { return topLevel(path.Clean(p)) == name })
}
