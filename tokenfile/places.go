package tokenfile

import (
	"os"
	"path/filepath"
	"strings"
)

// dataLink is the link of the kubelet's layout that is replaced in the place of
// everything that a volume holds.
const dataLink = "..data"

// maxLinks is how many links one after another Linux follows.
const maxLinks = 40

// place is a name in a directory: when something happens to it, a file may hold
// something else.
type place struct{ dir, name string }

// places are those of a file, and whether it is one of a volume. The file itself is
// none: a watch on it ends with the first file that replaces it. Links are
// followed, because what they lead to may be rewritten. That a link among the
// directories of the path leads elsewhere is no place's; the next poll sees it.
func places(path string) (all []place, volume bool) {
	for range maxLinks {
		if dir, name, ok := volumeOf(path); ok {
			all, volume = append(all, place{dir, dataLink}, place{dir, name}), true
			break
		}
		dir := filepath.Dir(path)
		all = append(all, place{dir, filepath.Base(path)})
		target, err := os.Readlink(path)
		if err != nil {
			break // not a link, or not there
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = filepath.Clean(target)
	}
	for i := range all {
		all[i] = all[i].existing()
	}
	return all, volume
}

// volumeOf finds the volume that a path leads through, and the name in it: a
// link to something in ..data, or ..data itself.
func volumeOf(path string) (dir, name string, ok bool) {
	for {
		dir, name = filepath.Dir(path), filepath.Base(path)
		if dir == path {
			return "", "", false
		}
		if name == dataLink {
			return dir, name, true
		}
		if target, err := os.Readlink(path); err == nil {
			if first, _, _ := strings.Cut(filepath.ToSlash(target), "/"); first == dataLink {
				return dir, name, true
			}
		}
		path = dir
	}
}

// existing is the place itself if its directory is there, or else where the
// first directory on the way to it that is missing would appear. The directory
// is without links, so that no two places have one under two names.
func (p place) existing() place {
	for {
		if dir, err := filepath.EvalSymlinks(p.dir); err == nil {
			return place{dir, p.name}
		}
		if filepath.Dir(p.dir) == p.dir {
			return p
		}
		p = place{filepath.Dir(p.dir), filepath.Base(p.dir)}
	}
}
