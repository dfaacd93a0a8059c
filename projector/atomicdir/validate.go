package atomicdir

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Limits of Linux on what a path may be (limits.h).
const (
	maxPath = 4095
	maxName = 255
)

// reserved is what the writer's own names begin with: "..data",
// "..data_tmp" and the generations.
const reserved = ".."

// maxEntries is how many names of a directory are looked at in one call. A
// workload may make any number of them, and names cost memory.
const maxEntries = 10_000

// Limits of a set, so that reading one back costs no more, whatever a workload
// has made of it.
const (
	maxFiles = 4096
	// MaxSize is how many bytes the files of a set may have in all.
	MaxSize = 16 << 20
)

// Check says why files can't be published in any volume: their paths, or how
// many or how large they are. Publish checks the same.
func Check(files []File) error {
	_, err := prepare(files)
	return err
}

func checkSize(files []File) error {
	size := 0
	for _, f := range files {
		size += len(f.Data)
	}
	if len(files) > maxFiles || size > MaxSize {
		return fmt.Errorf("%d files of %d bytes in all: want at most %d files and %d bytes", len(files), size, maxFiles, MaxSize)
	}
	return nil
}

// prepare returns the files sorted by their cleaned paths, or an error that
// names the first path that can't be published.
func prepare(files []File) ([]File, error) {
	if err := checkSize(files); err != nil {
		return nil, err
	}
	out := slices.Clone(files)
	for i := range out {
		clean, err := cleanPath(out[i].Path)
		if err != nil {
			return nil, err
		}
		out[i].Path = clean
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for i, f := range out {
		if i > 0 && out[i-1].Path == f.Path {
			return nil, fmt.Errorf("path %q: two files have it", f.Path)
		}
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if _, isFile := slices.BinarySearchFunc(out, dir, func(f File, p string) int { return strings.Compare(f.Path, p) }); isFile {
				return nil, fmt.Errorf("path %q: %q is a file, so it can't be a directory", f.Path, dir)
			}
		}
	}
	return out, nil
}

// cleanPath checks a path before and after cleaning: what is written is what
// was checked.
func cleanPath(p string) (string, error) {
	switch {
	case p == "":
		return "", fmt.Errorf("path %q: is empty", p)
	case strings.HasPrefix(p, "/"):
		return "", fmt.Errorf("path %q: is absolute, want one relative to the volume", p)
	case strings.ContainsRune(p, 0):
		return "", fmt.Errorf("path %q: contains a NUL byte", p)
	case len(p) > maxPath:
		return "", fmt.Errorf("path %.40q...: is longer than %d bytes", p, maxPath)
	}
	for element := range strings.SplitSeq(p, "/") {
		if element == ".." {
			return "", fmt.Errorf("path %q: contains the element %q", p, "..")
		}
		if len(element) > maxName {
			return "", fmt.Errorf("path %.40q...: an element is longer than %d bytes", p, maxName)
		}
	}
	clean := path.Clean(p)
	switch {
	case clean == ".":
		return "", fmt.Errorf("path %q: names the volume itself", p)
	case strings.HasPrefix(clean, reserved):
		return "", fmt.Errorf("path %q: begins with %q, which is reserved for the writer's own names", p, reserved)
	}
	return clean, nil
}

// topLevels are the first elements of the files' clean paths, sorted.
func topLevels(files []File) []string {
	top := make([]string, 0, len(files))
	for _, f := range files {
		top = append(top, topLevel(f.Path))
	}
	slices.Sort(top)
	return slices.Compact(top)
}

// topLevel is the first element of a clean path.
func topLevel(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}
