package integration

import (
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/test/daemon"
)

// TestRestartLeavesVolumesAlone ends projectord in each way, and starts it
// again: volumes stay meanwhile, and the new process requests no token and
// changes no inode.
func TestRestartLeavesVolumesAlone(t *testing.T) {
	for _, end := range []struct {
		name string
		do   func(*daemon.Daemon) error
	}{
		{"SIGTERM", (*daemon.Daemon).Term},
		{"SIGKILL", func(d *daemon.Daemon) error { d.Kill(); return nil }},
	} {
		t.Run(end.name, func(t *testing.T) {
			w := newWorld(t, shared)
			first := w.startReady()
			var pods []*corev1.Pod
			for n := range 10 {
				pods = append(pods, w.create(w.newPod(fmt.Sprint("pod-", n))))
			}
			for _, pod := range pods {
				w.waitFile(w.tokenFiles(pod)[0].Path)
			}
			w.must(end.do(first))
			before := w.inodes()
			requests := w.tokenRequests()

			second := w.startReady()
			w.eventually("all volumes to be adopted", func() bool {
				_, body, err := second.Get(w.ctx, "/metrics")
				return err == nil && strings.Contains(body, `projectord_volumes{phase="Ready"} 10`)
			})
			if after := w.inodes(); !slices.Equal(before, after) {
				t.Errorf("the restart changed inodes:\n%s\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			if n := w.tokenRequests() - requests; n != 0 {
				t.Errorf("the restart made %d TokenRequests by the API server's own count, want 0", n)
			}

			w.deletePod(pods[0])
			w.eventually("an adopted volume to go with its Pod", func() bool {
				return !w.exists(filepath.Dir(w.tokenFiles(pods[0])[0].Path))
			})
		})
	}
}

// TestPodsThatWentWhileProjectordWasDown expects their volumes to go when it
// is back.
func TestPodsThatWentWhileProjectordWasDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	first := w.startReady()
	pod := w.create(w.newPod("pod"))
	token := w.tokenFiles(pod)[0].Path
	w.waitFile(token)
	w.must(first.Term())
	w.deletePod(pod)
	again := w.create(w.newPod("pod")) // the same name, another UID
	w.startReady()
	w.eventually("the old volume to go", func() bool { return !w.exists(filepath.Dir(token)) })
	f := w.tokenFiles(again)[0]
	w.must(w.review(f, w.waitFile(f.Path)))
}

// TestAPIServerAway stops the API server under projectord: volumes stay,
// /readyz says so, and rotation goes on when it is back.
func TestAPIServerAway(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	w := newWorld(t, cluster)
	d := w.startReady("--rotation-max-age=10s")
	pod := w.create(w.newPod("pod"))
	f := w.tokenFiles(pod)[0]
	w.waitFile(f.Path)

	cluster.APIServer.Stop()
	w.waitReason(d, "nothing listens")
	w.eventually("/readyz to say no", func() bool {
		status, _, err := d.Get(w.ctx, "/readyz")
		return err == nil && status == http.StatusServiceUnavailable
	})
	w.eventually("a rotation to fail", func() bool {
		_, body, err := d.Get(w.ctx, "/metrics")
		return err == nil && strings.Contains(body, `projectord_volumes{phase="Degraded"} 1`)
	})
	during := w.tokenID(w.waitFile(f.Path)) // it is there, and whole

	w.must(cluster.APIServer.Start(w.ctx))
	w.waitReady(d)
	w.eventually("a rotation", func() bool { return w.tokenID(w.waitFile(f.Path)) != during })
	w.must(w.review(f, w.waitFile(f.Path)))
}

// TestNoTokenInAnyLog runs through publication, rotation, failures and removal
// at a high verbosity and looks for anything like a token.
func TestNoTokenInAnyLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady("--v=10", "--rotation-max-age=10s")
	pod := w.create(w.newPod("pod"))
	f := w.tokenFiles(pod)[0]
	first := w.waitFile(f.Path)
	w.eventually("a rotation", func() bool { return w.waitFile(f.Path) != first })
	second := w.waitFile(f.Path)
	w.deletePod(pod)
	w.eventually("the volume to go", func() bool { return !w.exists(f.Path) })
	_, metrics, err := d.Get(w.ctx, "/metrics")
	w.must(err)
	w.must(d.Term())
	for what, text := range map[string]string{"log": d.Log(), "metrics": metrics} {
		for _, token := range []string{first, second} {
			for _, part := range strings.Split(token, ".") {
				if strings.Contains(text, part) {
					t.Errorf("the %s holds a part of a token", what)
				}
			}
		}
		if regexp.MustCompile(`eyJ[A-Za-z0-9_-]{10}`).MatchString(text) {
			t.Errorf("the %s holds something like a token", what)
		}
	}
}

// inodes lists what is below the root, each with its inode and its times.
func (w *world) inodes() []string {
	w.Helper()
	var out []string
	w.must(filepath.WalkDir(filepath.Join(w.root(), "pods"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		out = append(out, fmt.Sprint(path, " ", st.Dev, st.Ino, st.Mtim, st.Ctim))
		return nil
	}))
	return out
}

// tokenRequests is how many TokenRequests the API server has answered, by its
// own count.
func (w *world) tokenRequests() int {
	w.Helper()
	n := w.serverSum(func(line string) bool {
		return strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `subresource="token"`)
	})
	if n == 0 {
		w.Fatal("the API server's metrics count no TokenRequests at all")
	}
	return n
}
