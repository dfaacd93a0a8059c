//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/proxy"
	"github.com/token-projector/token-projector/test/referee"
)

// short is how long the first tokens live. Stock client-go uses a token for up to
// 50 s after it has read it, and the API server takes one for up to 60 s after it
// has expired: with a rotation at 80% this suits both, and without one it does
// not.
const short = 24 * time.Second

// story is the life of an installation on one node.
type story struct {
	*rig
	install *document
	pods    []*corev1.Pod // selected ones
	host    *consumer
	// requests is how many tokens had been requested when all were made that are
	// needed: none is due for minutes.
	requests int
	// apiServerAway is how long nobody could reach it.
	apiServerAway time.Duration
}

// TestDaemonSet installs projectord as docs/install.md says, disturbs it, and
// removes it as docs/uninstall.md says, while a host process uses a token.
func TestDaemonSet(t *testing.T) {
	r := newRig(t)
	r.namespace("workloads")
	others := r.runPod(r.workload("not-selected", nil))
	r.withoutASelector()

	dir := r.workingCopy()
	s := &story{rig: r, install: r.document("install.md", dir)}
	r.service.Set(proxy.Rules{Lifetime: short})
	defer r.service.Set(proxy.Rules{})
	s.install.next("overlays/selected")
	if out := s.install.next("examples/pod.yaml"); !strings.Contains(out, "vault") {
		t.Errorf("inspect says %q", out)
	}
	selected := map[string]string{"token-projector.io/project": "true"}
	plain := r.runPod(r.workload("plain", selected))
	owned := r.workload("owned", selected)
	owned.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1234)), FSGroup: new(int64(4321))}
	web, err := r.client.CoreV1().Pods("default").Get(r.ctx, "web", metav1.GetOptions{})
	r.must(err)
	s.pods = []*corev1.Pod{plain, r.runPod(owned), web}
	f := r.injected(plain)
	s.host = r.consume(filepath.Dir(f.Path), f.User)
	control := r.consume(r.copied(filepath.Dir(f.Path)), f.User)

	s.files()
	rotations := s.rotate(5)
	s.rightsTakenAway()
	s.longLived()
	s.disturb()
	s.documented()
	if stale := r.end(control); stale.Failed == 0 {
		t.Errorf("a host process with a token that nobody rotates was never refused: %+v", stale)
	}
	report := r.end(s.host)
	fmt.Printf("RESULT e2e_daemonset rotations=%d requests=%d failed=%d unready=%d unreachable=%d tokens_used=%d\n",
		rotations, report.Requests, report.Failed, report.Unready, report.Unreachable, report.Tokens)
	if report.Failed > 0 || report.Requests == 0 {
		t.Errorf("of the host process's requests: %q", report.Problems)
	}
	// While the API server was away and as long as it took to begin, five a second.
	if most := int(s.apiServerAway/(200*time.Millisecond)) + 5; report.Tokens < 3 || report.Unreachable > most || report.Unready > 25 {
		t.Errorf("the host process used %d tokens; of its requests %d were not answered, at most %d should be; %d found the API server not ready: %q",
			report.Tokens, report.Unreachable, most, report.Unready, report.Problems)
	}
	if path := filepath.Join(root, "pods", string(others.UID)); exists(path) {
		t.Errorf("a Pod that was not selected has %s", path)
	}
	r.uninstall(dir)
}

// workload is a Pod that does nothing.
func (r *rig) workload(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "workloads", Labels: labels},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "c", Image: workloadImage}},
			TerminationGracePeriodSeconds: new(int64(0)),
		},
	}
}

// withoutASelector applies the base beside a kubelet: it says so, and writes
// nothing.
func (r *rig) withoutASelector() {
	r.Helper()
	dir := filepath.Join(repository, "deploy/daemonset/base")
	r.run("apply", "--kustomize="+dir)
	r.rollout(namespace, namespace)
	r.eventually("the warning", func() error {
		if log := r.log(); !strings.Contains(log, "none of them gets a volume here") || !strings.Contains(log, `"identity":"impersonate"`) {
			return errors.New(log)
		}
		return nil
	})
	if left, err := filepath.Glob(filepath.Join(root, "pods/*")); err != nil || len(left) > 0 {
		r.Errorf("it has written %q, %v", left, err)
	}
	r.run("delete", "--kustomize="+dir, "--wait")
}

// namespace is that of the manifests, and the DaemonSet's name.
const namespace = "projectord"

// daemonPod is the DaemonSet's Pod that is not ending.
func (r *rig) daemonPod() (*corev1.Pod, error) {
	pods, err := r.client.CoreV1().Pods(namespace).List(r.ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=projectord"})
	if err != nil {
		return nil, err
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(pods.Items) != 1 {
		return nil, fmt.Errorf("%d Pods of the DaemonSet", len(pods.Items))
	}
	return &pods.Items[0], nil
}

// log is what projectord has logged.
func (r *rig) log() string {
	return r.try("logs", "--namespace="+namespace, "daemonset/"+namespace)
}

// files compares each volume with the kubelet's own of the same Pod, and asks the
// API server about the tokens.
func (s *story) files() {
	s.Helper()
	for _, pod := range s.pods {
		f := s.injected(pod)
		s.must(referee.Review(s.ctx, s.client, f, s.waitFile(f.Path)))
		ours := filepath.Dir(f.Path)
		theirs := strings.Replace(ours, root, "/var/lib/kubelet", 1)
		if got, want := s.tree(ours), s.tree(theirs); got != want {
			s.Errorf("the volume of Pod %s is\n%s\nand the kubelet's is\n%s", pod.Name, got, want)
		}
	}
}

// rotate waits until each token has been rotated n times.
func (s *story) rotate(n int) int {
	s.Helper()
	rotations := make([]int, len(s.pods))
	last := make([]string, len(s.pods))
	deadline := time.Now().Add(time.Duration(n+1) * short)
	for slices.Min(rotations) < n {
		for i, pod := range s.pods {
			token := s.waitFile(s.injected(pod).Path)
			if last[i] != "" && token != last[i] {
				rotations[i]++
			}
			last[i] = token
		}
		if time.Now().After(deadline) {
			s.Fatalf("%v rotations, want %d each\n%s", rotations, n, s.log())
		}
		time.Sleep(100 * time.Millisecond)
	}
	return slices.Min(rotations)
}

// rightsTakenAway deletes the binding of the role and gives it back: tokens stay
// meanwhile, the log says why, and rotation goes on without a restart.
func (s *story) rightsTakenAway() {
	s.Helper()
	bindings := s.client.RbacV1().ClusterRoleBindings()
	binding, err := bindings.Get(s.ctx, namespace, metav1.GetOptions{})
	s.must(err)
	s.must(bindings.Delete(s.ctx, namespace, metav1.DeleteOptions{}))
	s.eventually("the log to say that a right is missing", func() error {
		if log := s.log(); !strings.Contains(log, "cannot impersonate") {
			return errors.New(log)
		}
		return nil
	})
	for _, pod := range s.pods {
		s.waitFile(s.injected(pod).Path)
	}
	binding.ResourceVersion, binding.UID = "", ""
	_, err = bindings.Create(s.ctx, binding, metav1.CreateOptions{})
	s.must(err)
	s.rotate(1)
}

// longLived has the tokens live as long as the API server says from now on.
func (s *story) longLived() {
	s.Helper()
	s.service.Set(proxy.Rules{})
	for _, pod := range s.pods {
		for _, f := range referee.TokenFiles(pod, root) {
			s.eventually("a token that lives longer", func() error {
				if lifetime := s.lifetime(f.Path); lifetime < time.Hour {
					return fmt.Errorf("it lives %s", lifetime)
				}
				return nil
			})
		}
	}
	s.requests = s.service.Requests()[tokenRequests]
}

// healthy does something that must cost no request for a token, and change no
// volume.
func (s *story) healthy(what string, do func()) {
	s.Helper()
	state := func() (all string) {
		for _, pod := range s.pods {
			for _, f := range referee.TokenFiles(pod, root) {
				var st syscall.Stat_t
				s.must(syscall.Stat(f.Path, &st))
				all += fmt.Sprintln(f.Path, st.Ino, st.Ctim)
			}
		}
		return all
	}
	before := state()
	began := time.Now()
	do()
	s.eventually("all volumes to be adopted", func() error { return s.ready() })
	if n := s.service.Requests()[tokenRequests] - s.requests; n != 0 {
		s.Errorf("%s: %d TokenRequests, want 0", what, n)
	}
	if after := state(); after != before {
		s.Errorf("%s: files have changed, from\n%sto\n%s", what, before, after)
	}
	s.Logf("%s: %s", what, time.Since(began).Round(100*time.Millisecond))
}

const tokenRequests = "create serviceaccounts/token"

// ready says why the DaemonSet's Pod is not.
func (r *rig) ready() error {
	pod, err := r.daemonPod()
	if err != nil {
		return err
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return errors.New("the DaemonSet's Pod is not ready")
}

// disturb ends and restarts what can be.
func (s *story) disturb() {
	s.Helper()
	s.healthy("Pod deleted", func() {
		before, err := s.daemonPod()
		s.must(err)
		s.run("delete", "pod", "--namespace="+namespace, before.Name, "--wait")
		s.rollout(namespace, namespace)
	})
	s.healthy("process killed", func() {
		before, err := s.daemonPod()
		s.must(err)
		for _, id := range s.processes("projectord") {
			s.must(syscall.Kill(id, syscall.SIGKILL))
		}
		s.eventually("the container to be started again", func() error {
			now, err := s.daemonPod()
			if err == nil && now.Status.ContainerStatuses[0].RestartCount == before.Status.ContainerStatuses[0].RestartCount {
				err = errors.New("it has not been restarted")
			}
			return err
		})
	})
	s.healthy("kubelet restarted", func() { s.restartKubelet() })
	s.healthy("API server away", func() {
		began := time.Now()
		s.cluster.APIServer.Stop()
		select {
		case <-time.After(away): // this is the fault itself, not a wait
		case <-s.ctx.Done():
		}
		s.must(s.cluster.APIServer.Start(s.ctx))
		s.apiServerAway = time.Since(began)
		// Else these take a minute to come back, and all that follows waits for them.
		s.must(s.cluster.ControllerManager.Restart(s.ctx))
		s.must(s.cluster.Scheduler.Restart(s.ctx))
		s.waitNode(began)
	})
}

// away is how long the API server is.
const away = time.Minute

// documented goes on with docs/install.md: a change of the configuration, fewer
// rights, and an upgrade to an image with another digest.
func (s *story) documented() {
	s.Helper()
	s.healthy("configuration changed", func() { s.install.next("PROJECTORD_ROTATION_MAX_AGE=12h") })
	s.healthy("chosen namespaces", func() { s.install.next("PROJECTORD_NAMESPACES=default") })
	outside := s.runPod(s.workload("outside", map[string]string{"token-projector.io/project": "true"}))
	s.healthy("upgrade", func() { s.install.next("newTag: next") })
	pod, err := s.daemonPod()
	s.must(err)
	if image := pod.Spec.Containers[0].Image; image != nextImage {
		s.Errorf("the image is %s, want %s", image, nextImage)
	}
	if path := filepath.Join(root, "pods", string(outside.UID)); exists(path) {
		s.Errorf("a Pod of a namespace that is not chosen has %s", path)
	}
	s.install.next("k0s")
	s.install.done()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// uninstall runs docs/uninstall.md and looks for what is left.
func (r *rig) uninstall(dir string) {
	r.Helper()
	doc := r.document("uninstall.md", dir)
	doc.next("delete -k my-projectord")
	if !exists(root) {
		r.Error("the volumes went with the DaemonSet")
	}
	doc.next("deploy/daemonset/uninstall")
	doc.next("rolebinding")
	doc.done()
	r.run("delete", "pod", "web", "--now")
	if exists(root) {
		r.Errorf("%s is still there", root)
	}
	if ids := r.processes("projectord"); len(ids) > 0 {
		r.Errorf("projectord still runs, %v", ids)
	}
	for _, kind := range []string{"clusterroles", "clusterrolebindings", "namespaces", "validatingadmissionpolicies"} {
		if out := r.run("get", kind, "--output=name"); strings.Contains(out, "projectord") {
			r.Errorf("left of %s: %s", kind, out)
		}
	}
	if _, err := r.client.RbacV1().RoleBindings("default").Get(context.Background(), namespace, metav1.GetOptions{}); err == nil {
		r.Error("the RoleBinding is left")
	}
}
