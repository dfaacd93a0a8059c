package atomicdir

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Publish makes files the volume's content, atomically:
//
//  1. Check and clean all paths. Nothing is touched if one is not valid.
//  2. Open the volume and, where a group is set, give the volume to it.
//  3. Look what is published. If it is what is wanted in paths, bytes, modes
//     and owners, go on with 7. A set that differs from what this Dir
//     published last is known to differ without reading.
//  4. Write all files into a new generation directory. If there is no space,
//     remove the old generations that are kept for their grace and try once
//     more.
//  5. Make the link "..data_tmp" to it, over whatever an earlier crash left.
//  6. Rename "..data_tmp" to "..data": from here on readers see the new set.
//  7. Make directories for mounts, and make, or put right, the user-visible
//     links of the set.
//  8. Remove user-visible links that are no longer in the set, what a crash
//     left, and generations whose grace is over. Other names are left alone.
//
// Every step may be the last before a crash: a reader then sees the old set or
// the new one, and the next Publish repairs what is left over. On an error up
// to and including step 6 the old set is what readers see; an error after that
// is returned with Result.Changed set. Errors name the step.
func (d *Dir) Publish(files []File) (Result, error) {
	want, err := prepare(files) // 1
	if err != nil {
		return Result{}, fmt.Errorf("checking the payload: %w", err)
	}
	root, err := openVolume(d.path) // 2
	if err != nil {
		return Result{}, err
	}
	defer closeFD(root)
	if err := d.giveToGroup(root); err != nil {
		return Result{}, err
	}
	current, err := currentGeneration(root) // 3
	if err != nil {
		return Result{}, err
	}
	sum := d.sum(want)
	equal := current != "" && (d.digest == sum || d.digest == 0)
	result := Result{Generation: current}
	if equal {
		var found bool
		found, equal, err = d.holds(root, current, want)
		if err != nil {
			return result, err
		}
		if !found { // "..data" leads nowhere
			result.Generation = ""
		}
	}
	top := topLevels(want)
	if !equal {
		name, err := d.write(root, want) // 4, 5, 6
		if isFull(err) && d.dropOld(root, current) {
			name, err = d.write(root, want)
		}
		if err != nil {
			return result, err
		}
		result.Generation, result.Changed = name, true
		d.generations = append(d.generations, generation{name: name, top: top})
	}
	d.digest = sum
	mountErr := d.makeMountPoints(root) // 7
	linkErr := d.link(root, top)
	if err := d.syncSwap(root, result.Generation); err != nil {
		return result, err // without it, nothing old may go
	}
	if linkErr != nil {
		d.synced = "" // there will be more links
	}
	cleanErr := d.clean(root, top, &result) // 8
	if isFull(linkErr) {                    // the old generation has the space
		d.dropOld(root, result.Generation)
		linkErr = d.link(root, top)
	}
	return result, errors.Join(linkErr, mountErr, cleanErr)
}

// syncSwap has the volume's directory on the disk, with all links to a
// generation, if that is wanted and was not done before.
func (d *Dir) syncSwap(root int, generation string) error {
	if !d.sync || d.synced == generation {
		return nil
	}
	if err := syncFD(root); err != nil {
		return fmt.Errorf("syncing the volume after the swap: %w", err)
	}
	d.synced = generation
	return nil
}

// clean is step 8 of Publish. It goes on after an error and returns the first.
func (d *Dir) clean(root int, top []string, result *Result) error {
	entries, err := list(root)
	if err != nil {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	foreign, first := d.removeObsolete(root, entries, top)
	result.Foreign = foreign
	sweepAt, err := d.sweep(root, entries, result.Generation, time.Now())
	result.SweepAt = sweepAt
	if first == nil {
		first = err
	}
	return first
}

// dirMode is the mode of generations and the directories in them.
func (d *Dir) dirMode() uint32 {
	if d.group >= 0 {
		return 02755
	}
	return 0755
}

// giveToGroup sets the group and the bits that the kubelet gives the root of a
// read-only volume with an fsGroup (pkg/volume/volume_linux.go). What is
// created in it inherits the group.
func (d *Dir) giveToGroup(root int) error {
	if d.group < 0 {
		return nil
	}
	st, err := stat(root)
	if err != nil {
		return fmt.Errorf("giving the volume to group %d: %w", d.group, err)
	}
	mode := st.Mode & 07777
	if int(st.Gid) == d.group && mode == mode|02550 {
		return nil
	}
	if err := d.setDirMode(root, mode|02550); err != nil {
		return fmt.Errorf("giving the volume to group %d: %w", d.group, err)
	}
	return nil
}

// setDirMode sets a directory's mode and its group, if there is one for the
// volume. The kernel drops the setgid bit, and says nothing, where the group is
// not the process's own, unless that has CAP_FSETID: so that the bit comes before
// the group. A change of group keeps it on a directory.
func (d *Dir) setDirMode(dir int, mode uint32) error {
	chmod := func() error { return unix.Fchmod(dir, mode) }
	if d.group < 0 {
		return retry(chmod)
	}
	chgrp := func(gid int) error { return retry(func() error { return unix.Fchown(dir, -1, gid) }) }
	if err := chgrp(os.Getegid()); err != nil {
		return err
	}
	if err := retry(chmod); err != nil {
		return err
	}
	return chgrp(d.group)
}

// write makes a new generation and swaps it in; it leaves nothing behind if
// it fails.
func (d *Dir) write(root int, files []File) (name string, err error) {
	name, dir, err := makeGeneration(root)
	if err != nil {
		return "", err
	}
	err = d.fill(dir, name, files) // 4
	closeFD(dir)
	if err == nil && d.sync {
		if err = syncFD(root); err != nil {
			err = fmt.Errorf("syncing the volume: %w", err)
		}
	}
	if err == nil {
		err = swap(root, name) // 5, 6
	}
	if err != nil {
		_ = remove(root, root, dataLinkTmp) // what is left, the next Publish removes
		_ = remove(root, root, name)
		return "", err
	}
	return name, nil
}

// swap makes name the current generation.
func swap(root int, name string) error {
	if err := replaceLink(root, dataLinkTmp, name); err != nil { // 5
		return err
	}
	rename := func() error { return unix.Renameat(root, dataLinkTmp, root, dataLink) }
	err := retry(rename) // 6
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		// Somebody made "..data" a directory; nothing can be read through it.
		if err = setAside(root, dataLink); err == nil {
			err = retry(rename)
		}
	}
	if err != nil {
		return fmt.Errorf("swapping %s: %w", dataLink, err)
	}
	return nil
}

// isFull says whether an error is about space that old generations may hold.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
