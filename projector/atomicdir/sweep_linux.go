package atomicdir

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Sweep removes old generations whose grace is over, and returns when the next
// one's is; zero if there is none. A Publish sweeps too, so call Sweep only if
// no Publish comes by the time that the last one gave. A volume without a
// current generation is left to the next Publish.
func (d *Dir) Sweep() (next time.Time, err error) {
	root, err := openVolume(d.path)
	if err != nil {
		return time.Time{}, err
	}
	defer closeFD(root)
	current, err := currentGeneration(root)
	if err != nil || current == "" {
		return time.Time{}, err
	}
	entries, err := list(root)
	if err != nil {
		return time.Time{}, fmt.Errorf("looking for old generations: %w", err)
	}
	return d.sweep(root, entries, current, time.Now())
}

// sweep removes from among a volume's entries the generations that are neither
// current nor within their grace, and all but the newest few. One that an
// earlier process left begins its grace when it is first seen. next is when the
// next grace ends. It goes on after an error and returns the first.
func (d *Dir) sweep(root int, entries []entry, current string, now time.Time) (next time.Time, err error) {
	var old, kept []generation
	for _, e := range entries {
		if !IsGeneration(e.name) {
			continue
		}
		g := d.known(e.name)
		if e.name == current {
			kept = append(kept, g)
			continue
		}
		if g.retired.IsZero() {
			g.retired = now
		}
		old = append(old, g)
	}
	slices.SortFunc(old, func(a, b generation) int {
		return cmp.Or(a.retired.Compare(b.retired), cmp.Compare(a.name, b.name))
	})
	for i, g := range old {
		if ends := g.retired.Add(d.grace); now.Before(ends) && len(old)-i <= maxKept {
			kept = append(kept, g)
			if next.IsZero() {
				next = ends // of the oldest
			}
			continue
		}
		if removeErr := g.remove(root); removeErr != nil {
			kept = append(kept, g)
			if err == nil {
				err = removeErr
			}
		}
	}
	d.generations = kept
	return next, err
}

// dropOld removes every generation but the current one, to make space, and
// says whether it removed any.
func (d *Dir) dropOld(root int, current string) bool {
	entries, err := relist(root)
	if err != nil {
		return false
	}
	dropped := false
	for _, e := range entries {
		if IsGeneration(e.name) && e.name != current && d.known(e.name).remove(root) == nil {
			dropped = true
		}
	}
	return dropped
}

// remove removes a generation: by the names that are remembered, and if
// something is left, or nothing is remembered, by looking.
func (g generation) remove(root int) error {
	if g.top != nil {
		if dir, err := openDirIn(root, g.name); err == nil {
			for _, name := range g.top {
				_ = unlink(dir, name)
			}
			closeFD(dir)
			if rmdir(root, g.name) == nil {
				return nil
			}
		}
	}
	return remove(root, root, g.name)
}

// Wipe removes everything in the volume, the published set first, and leaves
// the empty directory. A mount inside is not crossed and is an error, and so is
// more than one call may remove: call it again. It goes on after an error and
// returns the first.
func (d *Dir) Wipe() error {
	root, err := openVolume(d.path)
	if err != nil {
		return err
	}
	defer closeFD(root)
	d.memory = memory{}
	first := remove(root, root, dataLink) // at once gone for all readers
	entries, err := list(root)
	if first == nil {
		first = err
	}
	for _, e := range entries {
		if err := remove(root, root, e.name); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("wiping volume %s: %w", d.path, first)
	}
	return nil
}
