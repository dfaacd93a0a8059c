//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/proc"
	"github.com/token-projector/token-projector/test/referee"
)

// root is where the DaemonSet has volumes on the host.
const root = "/run/projectord"

// consumer is a host process that uses a Pod's injected volume.
type consumer struct {
	process *proc.Process
	log     string
}

// consume starts one that uses a volume and should be a user.
func (r *rig) consume(volume, user string) *consumer {
	r.Helper()
	c := &consumer{log: filepath.Join(r.TempDir(), "consumer.log")}
	r.waitFile(filepath.Join(volume, "token"))
	var err error
	c.process, err = proc.Start("consumer", filepath.Join(r.machine.Dir, "consumer"), []string{user, r.cluster.URL(), volume}, c.log)
	r.must(err)
	r.atEnd(c.process.Stop)
	return c
}

// consumed is what a consumer reports.
type consumed struct {
	Requests, Failed, Unready, Unreachable, Tokens int
	Problems                                       []string
}

// end ends a consumer and returns its report.
func (r *rig) end(c *consumer) (report consumed) {
	r.Helper()
	c.process.Stop()
	r.must(c.process.Exit())
	r.must(json.Unmarshal([]byte(r.hostFile(c.log)), &report))
	return report
}

// copied is a volume as it is now, and not later.
func (r *rig) copied(volume string) string {
	r.Helper()
	dir := r.TempDir()
	for _, name := range []string{"token", "ca.crt"} {
		r.must(os.WriteFile(filepath.Join(dir, name), []byte(r.waitFile(filepath.Join(volume, name))), 0600))
	}
	return dir
}

// injected is the token file of a Pod's injected volume.
func (r *rig) injected(pod *corev1.Pod) referee.File {
	r.Helper()
	for _, f := range referee.TokenFiles(pod, root) {
		if strings.Contains(f.Path, "/kube-api-access-") {
			return f
		}
	}
	r.Fatalf("Pod %s has no injected volume", pod.Name)
	return referee.File{}
}

// waitFile waits for a file of the host and returns what is in it.
func (r *rig) waitFile(path string) (content string) {
	r.Helper()
	r.eventually(path, func() error {
		b, err := os.ReadFile(path)
		content = string(b)
		return err
	})
	return content
}

// lifetime is that of the token in a file.
func (r *rig) lifetime(path string) time.Duration {
	r.Helper()
	claims, err := rotation.ParseClaims(r.waitFile(path))
	r.must(err)
	return claims.Lifetime()
}

// tree describes a volume: each name with its mode and owner, or link target. The
// generations' names are left out, and the owners of links: see docs/parity.md.
func (r *rig) tree(volume string) string {
	r.Helper()
	var lines []string
	var walk func(dir, shown string)
	walk = func(dir, shown string) {
		entries, err := os.ReadDir(dir)
		r.must(err)
		for _, e := range entries {
			path, name := filepath.Join(dir, e.Name()), e.Name()
			if strings.HasPrefix(name, "..2") {
				name = "..generation"
			}
			var st syscall.Stat_t
			r.must(syscall.Lstat(path, &st))
			line := fmt.Sprintf("%s mode %o owner %d:%d", filepath.Join(shown, name), st.Mode, st.Uid, st.Gid)
			if target, err := os.Readlink(path); err == nil {
				line = filepath.Join(shown, name)
				if name != "..data" {
					line += " -> " + target
				}
			}
			lines = append(lines, line)
			if e.IsDir() {
				walk(path, filepath.Join(shown, name))
			}
		}
	}
	walk(volume, "")
	return strings.Join(lines, "\n")
}

// processes are the ids of those that run a program of this name.
func (r *rig) processes(name string) (ids []int) {
	r.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/comm")
	r.must(err)
	for _, path := range procs {
		comm, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue // it may have ended meanwhile
		}
		var id int
		if _, err := fmt.Sscanf(path, "/proc/%d/comm", &id); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
