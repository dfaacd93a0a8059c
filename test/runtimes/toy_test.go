//go:build runtimes

package runtimes

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
	"github.com/token-projector/token-projector/test/proc"
	"github.com/token-projector/token-projector/test/proxy"
)

// toy is a Pod that the toy runtime runs.
type toy struct {
	*rig
	pod     *corev1.Pod
	dir     string
	args    []string
	log     string
	runtime *proc.Process
}

// report is what the process in the Pod says last.
type report struct {
	Requests, Failed, Tokens, Old int
	Problems                      []string
}

func (r *rig) toy() *toy {
	r.Helper()
	pod, volume := r.pod()
	p := &toy{rig: r, pod: pod, dir: filepath.Join(r.dir, "toy"), log: filepath.Join(r.dir, "toy.log")}
	r.must(os.MkdirAll(filepath.Join(p.dir, "rootfs"), 0755))
	program, err := os.ReadFile(workload)
	r.must(err)
	r.must(os.WriteFile(filepath.Join(p.dir, "rootfs/workload"), program, 0755))
	p.args = []string{"-socket", r.socket, "-dir", p.dir, r.ns + "/" + pod.Name, string(pod.UID), volume,
		"/workload", "system:serviceaccount:" + r.ns + ":default"}
	p.start()
	return p
}

// start runs the runtime, in the place of one that has ended.
func (p *toy) start() {
	p.Helper()
	var err error
	p.runtime, err = proc.Start("toyruntime", toyruntime, p.args, p.log)
	p.must(err)
}

// logs says how often the runtime has logged something.
func (p *toy) logs(text string) int {
	p.Helper()
	log, err := os.ReadFile(p.log)
	p.must(err)
	return strings.Count(string(log), text)
}

// pid is the process's number.
func (p *toy) pid() int {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "pid"))
	p.must(err)
	pid, err := strconv.Atoi(string(text))
	p.must(err)
	return pid
}

// report is what the process has said last.
func (p *toy) report() (out report) {
	p.Helper()
	if err := lastLine(filepath.Join(p.dir, "log"), &out); err != nil {
		return report{} // it says nothing yet, or is in the middle of it
	}
	return out
}

// rotated waits until the process has used so many tokens.
func (p *toy) rotated(tokens int) {
	p.Helper()
	p.eventually(fmt.Sprint(tokens, " tokens"), func() bool { return p.report().Tokens >= tokens })
}

// end ends the runtime as an operator does, and checks that nothing is left.
func (p *toy) end() {
	p.Helper()
	p.must(p.runtime.Signal(syscall.SIGTERM))
	p.ended()
}

// ended waits for the runtime's end, and checks that nothing is left.
func (p *toy) ended() {
	p.Helper()
	pid := p.pid()
	if err := p.runtime.Exit(); err != nil {
		p.Errorf("the runtime: %v\n%s", err, proc.Tail(p.log, 20))
	}
	if err := syscall.Kill(pid, 0); err == nil {
		p.Error("the process still runs")
	}
	p.nothingLeft()
}

// TestInClusterClient: a stock client in a mount namespace follows rotations, while
// its runtime and projectord are killed and come back. TestNoRotation is its control.
func TestInClusterClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	began := time.Now()
	p := r.toy()
	p.rotated(1)
	p.isolated()

	p.runtime.Kill()
	p.rotated(3) // projectord goes on without a runtime
	p.start()
	p.eventually("the runtime to take the process over", func() bool { return p.logs("took over process") == 1 && p.logs("published: ") == 2 })

	r.projectord.Kill()
	r.start()
	p.eventually("the runtime to publish once more", func() bool { return p.logs("published: ") == 3 })
	if v := r.volume(p.pod); v.GetPhase() != api.Phase_PHASE_READY || !v.GetPublished() {
		t.Errorf("after projectord was restarted: %v", v)
	}
	// A client that follows none fails by then.
	p.eventually("five rotations", func() bool { return p.report().Tokens > 5 && time.Since(began) > refused+5*time.Second })
	p.end()
	last := p.report()
	fmt.Printf("RESULT inclusterclient requests=%d rotations=%d failed=%d tokens_of_the_client_that_stays=%d seconds=%.0f\n",
		last.Requests, last.Tokens-1, last.Failed, last.Old, time.Since(began).Seconds())
	if last.Failed > 0 || last.Requests < 100 || last.Old < 2 {
		t.Errorf("%+v", last)
	}
	if p.logs("started process") != 1 {
		t.Error("the process was started again")
	}
}

// isolated checks what the process has mounted: its root, and its volume, read-only.
func (p *toy) isolated() {
	p.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", p.pid()))
	p.must(err)
	var points []string
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line)
		points = append(points, fields[4]+" "+strings.Split(fields[5], ",")[0])
	}
	if want := "[/ rw /var/run/secrets/kubernetes.io/serviceaccount ro]"; fmt.Sprint(points) != want {
		p.Errorf("the process has mounted %v, want %s", points, want)
	}
}

// TestNoRotation: where nothing is rotated, the same client's requests fail.
func TestNoRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.toy()
	p.rotated(1)
	r.proxy.Set(proxy.Rules{Fail: func(q *http.Request) int {
		if proxy.IsTokenRequest(q) {
			return http.StatusInternalServerError
		}
		return 0
	}})
	p.eventually("a request to fail", func() bool { return p.report().Failed > 0 })
	fmt.Printf("RESULT inclusterclient_control rotations=%d failed=%d\n", p.report().Tokens-1, p.report().Failed)
	p.end()
}

// TestPodDeleted: the volume of a Pod that is gone stays for as long as its process
// runs, and goes with it.
func TestPodDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.toy()
	p.rotated(1)
	r.deletePod(p.pod)
	p.eventually("the runtime to be told", func() bool { return p.logs("EVENT_TYPE_MODIFIED PHASE_TERMINATING") > 0 })
	// That nothing happens has no event: 5 s are several passes.
	before := time.Now()
	p.eventually("some time to pass", func() bool { return time.Since(before) > 5*time.Second })
	token := fmt.Sprintf("/proc/%d/root/var/run/secrets/kubernetes.io/serviceaccount/token", p.pid())
	if text, err := os.ReadFile(token); err != nil || len(text) == 0 {
		t.Errorf("the process's token: %d bytes, %v", len(text), err)
	}
	if v := r.volume(p.pod); v.GetPhase() != api.Phase_PHASE_TERMINATING || !v.GetPublished() || v.GetHostPath() == "" {
		t.Errorf("the volume: %v", v)
	}
	p.end()
}

// TestPodDeletedMeanwhile: a runtime that is back finds its process running and the Pod
// gone, and ends what is left of it.
func TestPodDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.toy()
	p.rotated(1)
	p.runtime.Kill()
	r.deletePod(p.pod)
	p.eventually("projectord to see it", func() bool { return r.volume(p.pod).GetPhase() == api.Phase_PHASE_TERMINATING })
	p.start()
	p.ended()
	if p.logs("took over process") != 1 || p.logs("NotFound") != 1 {
		t.Error("the runtime has not found the process, or found the Pod")
	}
}
