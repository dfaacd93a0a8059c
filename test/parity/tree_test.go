//go:build parity

package parity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// entry is one file, link or directory of a volume, as text.
type entry struct{ kind, owner, content string }

// tree reads a volume. Generations' names, and what differs between two tokens
// for the same request, are replaced.
func tree(dir string) (map[string]entry, error) {
	current, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		return nil, err
	}
	out := map[string]entry{}
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		found := entry{kind: info.Mode().String(), owner: fmt.Sprintf("%d:%d", st.Uid, st.Gid)}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			found.content = strings.ReplaceAll(target, current, "GENERATION")
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			found.content = essence(string(b))
		}
		rel, err := filepath.Rel(dir, p)
		out[strings.ReplaceAll(rel, current, "GENERATION")] = found
		return err
	})
	return out, err
}

// essence is a file's content; of a token all claims but those that differ
// from one to the next.
func essence(text string) string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || !strings.HasPrefix(text, "eyJ") {
		return text
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return text
	}
	var claims map[string]any
	if json.Unmarshal(body, &claims) != nil {
		return text
	}
	for _, name := range []string{"jti", "iat", "exp", "nbf"} {
		delete(claims, name)
	}
	if private, ok := claims["kubernetes.io"].(map[string]any); ok {
		delete(private, "warnafter")
	}
	sorted, err := json.Marshal(claims)
	if err != nil {
		return text
	}
	return "token " + string(sorted)
}

// difference is one thing that is not the same in two volumes.
type difference struct {
	path, what, kubelet, projectord string
	link                            bool // it is about a link
}

func (d difference) String() string {
	return fmt.Sprintf("%s: %s: kubelet %q, projectord %q", d.path, d.what, d.kubelet, d.projectord)
}

// diff compares two trees.
func diff(kubelet, projectord map[string]entry) (out []difference) {
	var paths []string
	for p := range kubelet {
		paths = append(paths, p)
	}
	for p := range projectord {
		if _, ok := kubelet[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		k, inKubelet := kubelet[p]
		o, inOurs := projectord[p]
		switch {
		case !inKubelet:
			out = append(out, difference{path: p, what: "missing", projectord: o.kind})
		case !inOurs:
			out = append(out, difference{path: p, what: "missing", kubelet: k.kind})
		default:
			for _, f := range []struct{ what, k, o string }{
				{"mode", k.kind, o.kind}, {"owner", k.owner, o.owner}, {"content", k.content, o.content},
			} {
				if f.k != f.o {
					out = append(out, difference{p, f.what, f.k, f.o, strings.HasPrefix(k.kind, "L")})
				}
			}
		}
	}
	return out
}

// compare reads and compares both volumes of a Pod; one that is being swapped
// is read again. No file may contain what is gone.
func (r *rig) compare(uid, volume string, gone []string) ([]difference, error) {
	var trees [2]map[string]entry
	for i, root := range []string{r.kubeletRoot(), r.projectordRoot()} {
		dir := filepath.Join(root, "pods", uid, "volumes", "kubernetes.io~projected", volume)
		var err error
		for range 5 {
			if trees[i], err = tree(dir); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		if err != nil {
			return nil, err
		}
	}
	out := diff(trees[0], trees[1])
	for p, e := range trees[0] { // or two volumes would be the same before anything has changed
		for _, text := range gone {
			if strings.Contains(e.content, text) {
				out = append(out, difference{path: p, what: "not updated", kubelet: e.content, projectord: trees[1][p].content})
			}
		}
	}
	return out, nil
}
