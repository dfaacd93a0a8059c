package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/test/proxy"
)

// BenchmarkAdoption kills projectord with 500 volumes and starts it again: how
// long until it has taken over all, how many tokens it asks for by the API
// server's own count, and how many inodes it changes. Besides with a node whose
// clock is an hour off (the API server's seems to be, which is the same), and as
// a control with files that hold no token.
func BenchmarkAdoption(b *testing.B) {
	for _, c := range []struct {
		name  string
		ahead time.Duration // the API server's clock
	}{{"none", 0}, {"node_hour_ahead", -time.Hour}, {"node_hour_behind", time.Hour}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRigBehind(b, proxy.Rules{Ahead: c.ahead})
			r.fill()
			if c.ahead == 0 {
				r.restart("adoption_control", c.name, r.spoil)
			}
			requests, inodes := r.restart("adoption", c.name, func() {})
			if requests > 0 || inodes > 0 {
				b.Errorf("%d TokenRequests and %d changed inodes, want none", requests, inodes)
			}
		})
	}
}

const adopted = 500

// fill makes Pods and waits for their files.
func (r *rig) fill() {
	r.Helper()
	const namespaces = 10
	var pods []*corev1.Pod
	for n := range namespaces {
		ns := fmt.Sprint("adoption-", n)
		r.namespace(ns)
		for i := range adopted / namespaces {
			pod, _ := r.post(ns, fmt.Sprint("pod-", i))
			pods = append(pods, pod)
		}
	}
	for _, pod := range pods {
		r.waitFiles(pod)
	}
}

// restart kills projectord, lets meanwhile happen and starts it again. It prints
// what that cost.
func (r *rig) restart(name, skew string, meanwhile func()) (requests, inodes int) {
	r.Helper()
	r.daemon.Kill()
	meanwhile()
	before, served := r.inodes(), r.tokenRequests()
	start := time.Now()
	r.start(r.proxy.Kubeconfig)
	for {
		_, metrics, err := r.daemon.Get(r.Context(), "/metrics")
		r.must(err)
		if metric(r.B, metrics, "projectord_adoptions_total") == adopted {
			break
		}
		if time.Since(start) > time.Minute {
			r.Fatal("not all volumes are taken over")
		}
		time.Sleep(5 * time.Millisecond)
	}
	ready := time.Since(start)
	requests = r.tokenRequests() - served
	after := r.inodes()
	for _, line := range after {
		if _, same := slices.BinarySearch(before, line); !same {
			inodes++
		}
	}
	result(r.B, name, fig("volumes", "%.0f", adopted), fig("token_requests", "%.0f", float64(requests)),
		fig("inodes_changed", "%.0f", float64(inodes)), fig("ready_seconds", "%.2f", ready.Seconds()).within(2), label("skew", skew))
	return requests, inodes
}

// spoil writes something else into each token's file.
func (r *rig) spoil() {
	r.Helper()
	files, err := filepath.Glob(filepath.Join(r.root(), "pods/*/volumes/*/*/..data/token"))
	r.must(err)
	if len(files) != adopted {
		r.Fatalf("%d token files, want %d", len(files), adopted)
	}
	for _, f := range files {
		r.must(os.WriteFile(f, []byte("no token"), 0600))
	}
}

// inodes lists what is below the root, sorted, each with its inode and times.
func (r *rig) inodes() (out []string) {
	r.Helper()
	r.must(filepath.WalkDir(filepath.Join(r.root(), "pods"), func(path string, _ fs.DirEntry, err error) error {
		var st syscall.Stat_t
		if err == nil {
			err = syscall.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) { // an old generation whose grace is over
			return nil
		}
		out = append(out, fmt.Sprint(path, " ", st.Dev, st.Ino, st.Mtim, st.Ctim))
		return err
	}))
	slices.Sort(out)
	return out
}

// tokenRequests is how many the API server has answered, by its own count.
func (r *rig) tokenRequests() (n int) {
	r.Helper()
	body, err := r.client.Discovery().RESTClient().Get().AbsPath("/metrics").Do(r.Context()).Raw()
	r.must(err)
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `subresource="token"`) {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
			r.must(err)
			n += int(v)
		}
	}
	if n == 0 {
		r.Fatal("the API server counts no TokenRequests at all")
	}
	return n
}
