package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestOwnCredentialIsFollowed replaces the node's kubeconfig again and again, by
// rename and by the swap of a ..data link as in a projected volume, with client
// certificates that expire within seconds: rotation goes on all the time.
func TestOwnCredentialIsFollowed(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"rename", "swap"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shared)
			const lasts = 6 * time.Second
			dir := filepath.Join(w.dir, "credential")
			w.must(os.Mkdir(dir, 0700))
			replaced := 0
			replace := func() {
				source, err := w.cluster.ClientKubeconfig("short-"+w.node, "system:node:"+w.node, []string{"system:nodes"}, time.Now().Add(lasts))
				w.must(err)
				content, err := os.ReadFile(source)
				w.must(err)
				w.replaceCredential(how, dir, content, replaced)
				replaced++
			}
			replace()
			d := w.startWith("--kubeconfig="+filepath.Join(dir, "kubeconfig"), "--rotation-max-age=10s")
			w.waitReady(d)
			pod := w.create(w.newPod("pod"))
			f := w.tokenFiles(pod)[0]
			last := w.waitFile(f.Path)
			rotations := 0
			for begin := time.Now(); time.Since(begin) < 25*time.Second; {
				next := time.Now().Add(lasts / 2)
				w.eventually("the next replacement", func() bool {
					if now := w.waitFile(f.Path); now != last {
						last = now
						rotations++
					}
					return time.Now().After(next)
				})
				replace()
			}
			if rotations < 2 {
				t.Errorf("%d rotations in 25 s with a period of at most 10 s", rotations)
			}
			w.must(w.review(f, last))

			w.replaceCredential(how, dir, []byte("no kubeconfig"), replaced)
			w.waitReason(d, "reading kubeconfig")
			replaced++
			replace()
			w.waitReady(d)
		})
	}
}

// replaceCredential puts a kubeconfig into a directory.
func (w *world) replaceCredential(how, dir string, content []byte, n int) {
	w.Helper()
	if how == "rename" {
		w.must(os.WriteFile(filepath.Join(dir, "new"), content, 0600))
		w.must(os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "kubeconfig")))
		return
	}
	generation := "..generation-" + strconv.Itoa(n)
	w.must(os.Mkdir(filepath.Join(dir, generation), 0700))
	w.must(os.WriteFile(filepath.Join(dir, generation, "kubeconfig"), content, 0600))
	w.must(os.Symlink(generation, filepath.Join(dir, "..data_tmp")))
	w.must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if n == 0 {
		w.must(os.Symlink("..data/kubeconfig", filepath.Join(dir, "kubeconfig")))
	}
}
