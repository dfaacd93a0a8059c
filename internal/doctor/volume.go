package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/token-projector/token-projector/internal/inspect"
)

// late is how long after a token was due it is certain that nobody replaces it: the
// kubelet looks every 90 s.
const late = 2 * time.Minute

func (v *volume) result(status Status, check, text, advice string) Result {
	return Result{Status: status, Check: check, Volume: v.path, Text: text, Advice: advice}
}

// checkVolume looks at what lies on the node.
func (d *Doctor) checkVolume(v *volume) {
	found, err := inspect.ReadVolume(v.path, d.Now)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.add(v.result(Skip, "volume", "it can't be read by this user", "run it again as root"))
		return
	case errors.Is(err, fs.ErrNotExist):
		d.add(v.result(Fail, "volume", "there is no such directory", "see what is there: ls "+filepath.Dir(v.path)))
		return
	case err != nil:
		d.add(v.result(Fail, "volume", err.Error(), "see what is there: ls -la "+v.path))
		return
	case found.Generation == "" || found.WrittenAt.IsZero(): // or it is not there
		d.add(v.result(Fail, "volume", strings.Join(found.Problems, "; "), d.keeper(v)))
		return
	}
	v.found = found
	// A lapsed token has a line of its own.
	problems := slices.DeleteFunc(slices.Clone(found.Problems), func(p string) bool {
		return slices.ContainsFunc(found.Files, func(f inspect.File) bool { return p == f.Lapsed() })
	})
	if len(problems) > 0 {
		d.add(v.result(Warn, "volume", strings.Join(problems, "; "), d.keeper(v)))
	} else {
		d.add(v.result(OK, "volume", fmt.Sprintf("generation %s with %d files, written %s ago",
			found.Generation, len(found.Files), d.Now.Sub(found.WrittenAt).Round(time.Second)), ""))
	}
	tokens := 0
	for _, f := range found.Files {
		if f.Token != nil || path.Base(f.Path) == "token" {
			tokens++
			d.add(d.tokenOnDisk(v, f))
		}
	}
	if tokens == 0 {
		d.add(v.result(Warn, "token", "it holds no token", "see that the Pod's spec has a source serviceAccountToken in this volume"))
	}
}

// tokenOnDisk judges one file by its own words.
func (d *Doctor) tokenOnDisk(v *volume, f inspect.File) Result {
	t := f.Token
	switch {
	case t == nil:
		return v.result(Fail, "token", f.Path+" is not a token of a ServiceAccount", d.keeper(v))
	case t.Expired:
		return v.result(Fail, "token", f.Lapsed(), d.keeper(v))
	case t.Overdue:
		return v.result(Warn, "token", f.Lapsed()+", and is still accepted", d.keeper(v))
	case t.Pod != nil && v.pod != "" && t.Pod.UID != v.pod:
		return v.result(Fail, "token", fmt.Sprintf("%s holds a token of Pod %s, and the volume is of Pod %s", f.Path, t.Pod.UID, v.pod), d.keeper(v))
	}
	text := fmt.Sprintf("%s is of %s/%s, audiences %s", f.Path, t.Namespace, t.ServiceAccount.Name, strings.Join(t.Audiences, ", "))
	if t.Deadline.IsZero() {
		return v.result(Warn, "token", text+", and never expires", "replace it by a projected token: nothing but the deletion of its Secret ends it")
	}
	text += fmt.Sprintf(", good for %s; %s", t.Deadline.Sub(d.Now).Round(time.Second), d.readers(v, f))
	if !t.DueBy.IsZero() && d.Now.After(t.DueBy.Add(late)) {
		return v.result(Warn, "token", text+"; it was to be replaced by "+t.DueBy.UTC().Format(time.RFC3339), d.keeper(v))
	}
	return v.result(OK, "token", text, "")
}

// readers says who may read a file.
func (d *Doctor) readers(v *volume, f inspect.File) string {
	info, err := os.Stat(filepath.Join(v.path, v.found.Generation, f.Path))
	if err != nil {
		return "it was replaced just now"
	}
	uid, gid := owner(info)
	mode := info.Mode().Perm()
	text := fmt.Sprintf("mode %04o, read by user %d", mode, uid)
	if mode&0040 != 0 {
		text += fmt.Sprintf(", group %d", gid)
	}
	if mode&0004 != 0 {
		text += " and everybody"
	}
	return text
}

func owner(info fs.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return -1, -1
}

// keeper is where to look if a volume is not as it should be.
func (d *Doctor) keeper(v *volume) string {
	if v.ours {
		return "see that projectord runs, and what it says of this volume: its log names Pod, volume and reason"
	}
	return "see that the kubelet runs, and what it says: journalctl -u kubelet, and the Events of the Pod (kubectl describe pod)"
}
