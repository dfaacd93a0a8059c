package atomicdir

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Publish makes files the volume's content, atomically:
//
//  1. Check and clean all paths. Nothing is touched if one is not valid.
//  2. Open the volume and, where a group is set, give the volume to it.
//  3. Read what is published. If it is what is wanted in paths, bytes, modes
//     and owners, go on with 7.
//  4. Write all files into a new generation directory.
//  5. Make the link "..data_tmp" to it, over whatever an earlier crash left.
//  6. Rename "..data_tmp" to "..data": from here on readers see the new set.
//  7. Make, or put right, the user-visible links of the set.
//  8. Remove user-visible links that are no longer in the set, and every
//     generation but the current one. Other names are left alone.
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
	have, intact, err := d.readCurrent(root) // 3
	if err != nil {
		return Result{}, err
	}
	result := Result{Generation: have.Generation}
	if !intact || !same(have.Files, want) {
		result.Generation, err = d.write(root, want) // 4, 5, 6
		if err != nil {
			return Result{Generation: have.Generation}, err
		}
		result.Changed = true
	}
	if err := link(root, want); err != nil { // 7
		return result, err
	}
	return result, clean(root, want, result.Generation) // 8
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
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return fmt.Errorf("giving the volume to group %d: %w", d.group, err)
	}
	mode := st.Mode & 07777
	if int(st.Gid) == d.group && mode == mode|02550 {
		return nil
	}
	if err := unix.Fchown(root, -1, d.group); err != nil {
		return fmt.Errorf("giving the volume to group %d: %w", d.group, err)
	}
	if err := unix.Fchmod(root, mode|02550); err != nil {
		return fmt.Errorf("giving the volume to group %d: %w", d.group, err)
	}
	return nil
}

// same compares two sorted sets; have's owners are known.
func same(have, want []File) bool {
	if len(have) != len(want) {
		return false
	}
	for i, w := range want {
		h := have[i]
		if h.Path != w.Path || h.Mode != w.Mode || !bytes.Equal(h.Data, w.Data) {
			return false
		}
		if w.Owner != nil && (w.Owner.UID >= 0 && w.Owner.UID != h.Owner.UID || w.Owner.GID >= 0 && w.Owner.GID != h.Owner.GID) {
			return false
		}
	}
	return true
}

// write makes a new generation and swaps it in; it leaves nothing behind if
// it fails.
func (d *Dir) write(root int, files []File) (name string, err error) {
	name, generation, err := makeGeneration(root)
	if err != nil {
		return "", err
	}
	defer func() {
		closeFD(generation)
		if err != nil {
			_ = removeEntry(root, dataLinkTmp)
			_ = removeEntry(root, name) // what is left, the next Publish removes
		}
	}()
	for _, f := range files { // 4
		if err := d.writeFile(generation, f); err != nil {
			return "", fmt.Errorf("writing %q: %w", f.Path, err)
		}
	}
	// Last, because it opens the generation to others.
	if err := unix.Fchmod(generation, d.dirMode()); err != nil {
		return "", fmt.Errorf("setting the mode of generation %s: %w", name, err)
	}
	if err := replaceLink(root, dataLinkTmp, name); err != nil { // 5
		return "", err
	}
	err = retry(func() error { return unix.Renameat(root, dataLinkTmp, root, dataLink) }) // 6
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		// Somebody made "..data" a directory; nothing can be read through it.
		if err = removeEntry(root, dataLink); err == nil {
			err = retry(func() error { return unix.Renameat(root, dataLinkTmp, root, dataLink) })
		}
	}
	if err != nil {
		return "", fmt.Errorf("swapping %s: %w", dataLink, err)
	}
	return name, nil
}
