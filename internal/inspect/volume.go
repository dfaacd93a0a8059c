package inspect

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// Volume is what lies in a projected volume's directory.
type Volume struct {
	Path       string    `json:"path"`
	Generation string    `json:"generation,omitempty"`
	WrittenAt  time.Time `json:"writtenAt,omitzero"`
	// Old are generations that stay for readers in the middle of them.
	Old []string `json:"old,omitempty"`
	// Links are the names that programs open, each leading through ..data.
	Links []Link `json:"links"`
	Files []File `json:"files"`
	// Problems say what is not as the writer leaves it; empty if all is well.
	Problems []string `json:"problems,omitempty"`
}

// Link is a symbolic link at the top of a volume.
type Link struct {
	Name   string `json:"name"`
	Target string `json:"target"`
}

// File is one file of a volume.
type File struct {
	Path     string    `json:"path"`
	Mode     string    `json:"mode"` // such as -rw-r--r--
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Token    *Token    `json:"token,omitempty"`
	// Text is the token's own, for a review; it is never shown.
	text string
}

// graceBound is more than an old generation stays after the swap, unless the
// writer was told otherwise or does not run.
const graceBound = time.Minute

// looks is how often a volume is read whose generation is swapped meanwhile.
const looks = 5

// ReadVolume looks at a directory in the kubelet's layout. What is wrong with
// it is in Problems; the error is for a directory that can't be read. A volume
// that is published while it is read is read again.
func ReadVolume(dir string, now time.Time) (*Volume, error) {
	return untilStill(func() (*Volume, error) { return readOnce(dir, now) })
}

// untilStill reads until the generation is the same after as before.
func untilStill(read func() (*Volume, error)) (v *Volume, err error) {
	for range looks {
		v, err = read()
		if err != nil || v.Generation == "" {
			return v, err
		}
		if target, _ := os.Readlink(filepath.Join(v.Path, "..data")); target == v.Generation {
			return v, nil
		}
	}
	v.Problems = append(v.Problems, "it was published again each time it was read: what is said of it may be mixed")
	return v, nil
}

func readOnce(dir string, now time.Time) (*Volume, error) {
	// The link first: all that is read later is of it, or of one that
	// untilStill finds changed.
	target, linkErr := os.Readlink(filepath.Join(dir, "..data"))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	v := &Volume{Path: dir, Links: []Link{}, Files: []File{}}
	problem := func(format string, args ...any) { v.Problems = append(v.Problems, fmt.Sprintf(format, args...)) }
	if linkErr != nil || !atomicdir.IsGeneration(target) {
		problem("..data is not a link to a generation: not a projected volume, or one that nothing has been published in")
		return v, nil
	}
	v.Generation = target
	if info, err := os.Stat(filepath.Join(dir, target)); err != nil {
		problem("..data names generation %s, which is not there", target)
	} else {
		v.WrittenAt = info.ModTime()
	}
	if err := v.readFiles(now); err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		link, _ := os.Readlink(filepath.Join(dir, name))
		if link != "" {
			v.Links = append(v.Links, Link{Name: name, Target: link})
		}
		switch {
		case name == "..data" || name == target:
		case name == "..data_tmp":
			problem("..data_tmp was left by a writer that was interrupted")
		case atomicdir.IsGeneration(name):
			v.Old = append(v.Old, name)
			if !v.WrittenAt.IsZero() && now.Sub(v.WrittenAt) > graceBound {
				problem("generation %s is an old one, and the current one was written %s ago", name, now.Sub(v.WrittenAt).Round(time.Second))
			}
		case link != "..data/"+name:
			problem("%s is not a link into ..data: not the writer's", name)
		case !slices.ContainsFunc(v.Files, func(f File) bool { return f.Path == name || strings.HasPrefix(f.Path, name+"/") }):
			problem("%s is a link to nothing", name)
		}
	}
	for _, f := range v.Files {
		first, _, _ := strings.Cut(f.Path, "/")
		if _, err := os.Lstat(filepath.Join(dir, first)); err != nil {
			problem("%s has no link to it", f.Path)
		}
		if lapsed := f.Lapsed(); lapsed != "" {
			problem("%s", lapsed)
		}
	}
	return v, nil
}

// Lapsed is the problem with a token whose time is over, as it is among those of the
// volume; empty if there is none.
func (f File) Lapsed() string {
	switch t := f.Token; {
	case t != nil && t.Expired:
		return fmt.Sprintf("%s holds a token that expired at %s", f.Path, t.ExpiresAt.UTC().Format(time.RFC3339))
	case t != nil && t.Overdue:
		return fmt.Sprintf("%s holds a token that was to be replaced by %s", f.Path, t.Deadline.UTC().Format(time.RFC3339))
	}
	return ""
}

// readFiles lists the generation's files.
func (v *Volume) readFiles(now time.Time) error {
	root := filepath.Join(v.Path, v.Generation)
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreAbsent(err)
		}
		info, err := e.Info()
		if err != nil {
			return ignoreAbsent(err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			// A group may have been given the directories, by fsGroup.
			if info.Mode()&0002 != 0 {
				v.Problems = append(v.Problems, "directory "+filepath.Join(v.Generation, rel)+" can be written by everybody")
			}
			return nil
		}
		if !info.Mode().IsRegular() {
			v.Problems = append(v.Problems, rel+" is no regular file: not the writer's")
		}
		if info.Mode().IsRegular() && info.Mode()&0022 != 0 {
			v.Problems = append(v.Problems, rel+" can be written by others than its owner")
		}
		f := File{Path: rel, Mode: info.Mode().String(), Size: info.Size(), Modified: info.ModTime()}
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return ignoreAbsent(err)
			}
			if text := bytes.TrimSpace(content); LooksLikeToken(text) {
				if len(text) != len(content) {
					v.Problems = append(v.Problems, rel+" has white space around the token, which some SDKs do not take off")
				}
				f.text = string(text)
				f.Token, _ = ParseToken(f.text, f.Modified, now) // a token of something else is shown as a file
			}
		}
		v.Files = append(v.Files, f)
		return nil
	})
}

// ignoreAbsent is for what a rotation removed while we were looking.
func ignoreAbsent(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// EachToken calls f with each token of the volume and its text.
func (v *Volume) EachToken(f func(t *Token, text string) error) error {
	for i := range v.Files {
		if t := v.Files[i].Token; t != nil {
			if err := f(t, v.Files[i].text); err != nil {
				return err
			}
		}
	}
	return nil
}
