//go:build faults

package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/proc"
	"github.com/token-projector/token-projector/test/proxy"
	"github.com/token-projector/token-projector/test/referee"
)

var scenarioSeconds = flag.Int("scenario-seconds", 70, "how long each scenario of the referee lasts")

// watchRecovers is within which time a watch is back: a dead connection is found
// out after 45 s, and a reflector waits for up to 30 s.
const watchRecovers = 80 * time.Second

// shortLife is the lifetime of the tokens in scenarios: rotated after 48 s at
// the latest, they leave an outage 12 s.
const shortLife = 60 * time.Second

// scene is one scenario: a node of its own behind a proxy of its own, Pods,
// projectord, and a referee that reads all token files.
type scene struct {
	*testing.T
	ctx     context.Context
	cluster *devcluster.Cluster
	client  kubernetes.Interface
	node    string
	ns      string
	dir     string
	proxy   *proxy.Proxy
	daemon  *daemon.Daemon
	flags   []string
	referee *referee.Referee
	running sync.WaitGroup
	began   time.Time
	// maxRequests is how many requests each token may take, with those that
	// failed. A daemon that adopts nothing takes more when it is killed every few
	// seconds.
	maxRequests float64
}

var scenes atomic.Int64

// newScene makes a node with some Pods of ServiceAccount app, and waits until all
// have their tokens.
func newScene(t *testing.T, cluster *devcluster.Cluster, rules proxy.Rules, flags ...string) *scene {
	t.Helper()
	return newSceneOn(t, cluster, rules, func(string) {}, flags...)
}

// newSceneOn is newScene with a root directory that is prepared first.
func newSceneOn(t *testing.T, cluster *devcluster.Cluster, rules proxy.Rules, prepare func(root string), flags ...string) *scene {
	t.Helper()
	n := scenes.Add(1)
	s := &scene{T: t, ctx: t.Context(), cluster: cluster, dir: t.TempDir(), flags: flags,
		node: fmt.Sprint("node-", n), ns: fmt.Sprint("scene-", n), began: time.Now(), maxRequests: 6}
	t.Cleanup(func() { s.must(isolate.UnmountBelow(s.dir)) })
	var err error
	s.client, err = cluster.Admin()
	s.must(err)
	_, err = s.client.CoreV1().Nodes().Create(s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: s.node}}, metav1.CreateOptions{})
	s.must(err)
	_, err = s.client.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.ns}}, metav1.CreateOptions{})
	s.must(err)
	s.eventually("the namespace to be filled", func() bool {
		filled, err := devcluster.NamespaceFilled(s.ctx, s.client, s.ns)
		return err == nil && filled
	})
	s.makeAccount()
	s.proxy, err = proxy.Start(cluster, s.node)
	s.must(err)
	t.Cleanup(s.proxy.Stop)
	s.proxy.Set(rules)
	s.must(os.Mkdir(s.root(), 0755))
	prepare(s.root())
	s.start()
	watching, stop := context.WithCancel(context.Background())
	s.referee = referee.New(s.client, 100*time.Millisecond, func(referee.Change) {})
	s.running.Go(func() { s.referee.Run(watching) })
	t.Cleanup(func() { stop(); s.running.Wait() })
	for i := range 8 {
		s.watch(s.pod(fmt.Sprint("pod-", i)))
	}
	return s
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// eventually waits for something that another process does.
func (s *scene) eventually(what string, done func() bool) {
	s.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("waited too long for %s", what)
		}
	}
}

func (s *scene) root() string { return filepath.Join(s.dir, "root") }

// start runs projectord, in the place of one that has ended.
func (s *scene) start() {
	s.Helper()
	log := filepath.Join(s.dir, fmt.Sprintf("projectord-%d.log", time.Now().UnixNano()))
	d, err := daemon.Start(program, log, append([]string{"--kubeconfig=" + s.proxy.Kubeconfig, "--node-name=" + s.node,
		"--root-dir=" + s.root(), "--service-account-check-interval=2s",
		"--mass-removal-hold=5s"}, s.flags...)...)
	s.must(err)
	s.daemon = d
	s.Cleanup(func() {
		d.Stop()
		if text := d.Log(); strings.Contains(text, "panic") || strings.Contains(text, "DATA RACE") {
			s.Errorf("projectord panicked or had a race:\n%s", text)
		}
		if s.Failed() {
			s.Logf("end of projectord's log:\n%s", proc.Tail(log, 60))
		}
	})
}

func (s *scene) waitReady() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	s.must(s.daemon.WaitReady(ctx))
}

func (s *scene) makeAccount() {
	s.Helper()
	_, err := s.client.CoreV1().ServiceAccounts(s.ns).Create(s.ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "app"}}, metav1.CreateOptions{})
	s.must(err)
}

func (s *scene) pod(name string) *corev1.Pod {
	s.Helper()
	pod, err := s.client.CoreV1().Pods(s.ns).Create(s.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec: corev1.PodSpec{NodeName: s.node, ServiceAccountName: "app",
			Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	s.must(err)
	return pod
}

// watch waits for a Pod's tokens and has the referee watch them.
func (s *scene) watch(pod *corev1.Pod) {
	s.Helper()
	for _, f := range referee.TokenFiles(pod, s.root()) {
		s.eventually(f.Path, func() bool { return s.exists(f.Path) })
		s.referee.Watch(f)
	}
}

// remove deletes a Pod at once, and the referee no longer watches it.
func (s *scene) remove(pod *corev1.Pod) {
	s.Helper()
	for _, f := range referee.TokenFiles(pod, s.root()) {
		s.referee.Release(f.Path)
	}
	now := int64(0)
	s.must(s.client.CoreV1().Pods(s.ns).Delete(s.ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

func (s *scene) exists(path string) bool {
	s.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Fatal(err)
	}
	return err == nil
}

// left says whether the scenario goes on, and lets some time of it pass.
func (s *scene) left(d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
	return time.Since(s.began) < time.Duration(*scenarioSeconds)*time.Second
}

// judge asks the API server about each token, removes all Pods, prints the
// result and fails the test if anything was wrong.
func (s *scene) judge(name string) {
	s.Helper()
	s.referee.ReviewAll(s.ctx)
	report := s.referee.Report()
	made, _ := s.proxy.TokenRequests()
	each := float64(made) / float64(max(report.Tokens, 1))
	pods, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	for i := range pods.Items {
		s.remove(&pods.Items[i])
	}
	leaked := len(pods.Items)
	for deadline := time.Now().Add(watchRecovers); leaked > 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(s.root(), "pods", "*"))
		s.must(err)
		leaked = len(found)
	}
	fmt.Printf("RESULT referee scenario=%s seconds=%.0f rotations=%d readings=%d lapsed=%d wrong_identity=%d torn=%d leaked_volumes=%d requests_per_rotation=%.2f excused_seconds=%.0f\n",
		name, time.Since(s.began).Seconds(), report.Rotations, report.Readings, report.Lapsed, report.WrongIdentity, report.Broken, leaked,
		each, report.Excused.Seconds())
	if report.Lapsed+report.WrongIdentity+report.Broken+leaked > 0 {
		s.Errorf("%s: %q", name, report.Problems)
	}
	if each > s.maxRequests {
		s.Errorf("%s: %.1f requests for each token, want at most %.0f", name, each, s.maxRequests)
	}
	if report.Rotations == 0 || report.Readings == 0 {
		s.Error("nothing was rotated, or nothing read")
	}
}
