package integration

import (
	"os"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestServiceAccountRecreated: the API server refuses the tokens of the old one;
// projectord finds out by itself and replaces them, those of other Pods too.
func TestServiceAccountRecreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady("--service-account-check-interval=2s")
	accounts := w.client.CoreV1().ServiceAccounts(w.ns)
	create := func() {
		_, err := accounts.Create(w.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "app"}}, metav1.CreateOptions{})
		w.must(err)
	}
	create()
	var paths []string
	for _, name := range []string{"one", "two"} {
		pod := w.newPod(name)
		pod.Spec.ServiceAccountName = "app"
		f := w.tokenFiles(w.create(pod))[0]
		paths = append(paths, f.Path)
		w.must(w.review(f, w.waitFile(f.Path)))
	}
	old := []string{w.waitFile(paths[0]), w.waitFile(paths[1])}
	w.must(accounts.Delete(w.ctx, "app", metav1.DeleteOptions{}))
	create()
	for i, path := range paths {
		w.eventually("the old ServiceAccount's token to be replaced", func() bool { return w.waitFile(path) != old[i] })
	}
	account, err := accounts.Get(w.ctx, "app", metav1.GetOptions{})
	w.must(err)
	for _, path := range paths {
		if got := w.claims(w.waitFile(path)).ServiceAccount.UID; got != string(account.UID) {
			t.Errorf("the token is of ServiceAccount UID %s, want %s", got, account.UID)
		}
	}
	_, body, err := d.Get(w.ctx, "/metrics")
	w.must(err)
	if strings.Contains(body, `projectord_service_account_lookups_total{result="success"} 0`) {
		t.Error("no lookup is counted")
	}
}

// TestMintTellsOfARecreatedServiceAccount: without the lookups, the next mint
// of one Pod's token finds out, and all others follow.
func TestMintTellsOfARecreatedServiceAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady("--service-account-check-interval=0")
	accounts := w.client.CoreV1().ServiceAccounts(w.ns)
	pod := w.create(w.newPod("old"))
	f := w.tokenFiles(pod)[0]
	old := w.waitFile(f.Path)
	w.must(accounts.Delete(w.ctx, "default", metav1.DeleteOptions{}))
	w.eventually("the controller to make a new ServiceAccount", func() bool {
		a, err := accounts.Get(w.ctx, "default", metav1.GetOptions{})
		return err == nil && string(a.UID) != w.claims(old).ServiceAccount.UID
	})
	fresh := w.create(w.newPod("new"))
	w.must(w.review(w.tokenFiles(fresh)[0], w.waitFile(w.tokenFiles(fresh)[0].Path)))
	w.eventually("the other Pod's token to be replaced", func() bool { return w.waitFile(f.Path) != old })
	w.must(w.review(f, w.waitFile(f.Path)))
}

// TestForcedRotation replaces all tokens at a SIGUSR1.
func TestForcedRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady()
	var paths, before []string
	for _, name := range []string{"one", "two", "three"} {
		f := w.tokenFiles(w.create(w.newPod(name)))[0]
		paths = append(paths, f.Path)
		before = append(before, w.waitFile(f.Path))
	}
	w.must(d.Signal(syscall.SIGUSR1))
	for i, path := range paths {
		w.eventually("a rotation", func() bool { return w.waitFile(path) != before[i] })
	}
}

// TestTerminatingPodKeepsAValidToken: a Pod with a long grace period is still
// served, and gets no token of another Pod that takes its name.
func TestTerminatingPodKeepsAValidToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady("--rotation-max-age=10s")
	pod := w.newPod("pod")
	hour := int64(3600)
	pod.Spec.TerminationGracePeriodSeconds = &hour
	pod = w.create(pod)
	f := w.tokenFiles(pod)[0]
	w.waitFile(f.Path)
	w.must(w.client.CoreV1().Pods(w.ns).Delete(w.ctx, "pod", metav1.DeleteOptions{}))
	for range 2 {
		last := w.waitFile(f.Path)
		w.eventually("a rotation", func() bool { return w.waitFile(f.Path) != last })
	}
	w.must(w.review(f, w.waitFile(f.Path)))
	w.deletePod(pod)
	again := w.tokenFiles(w.create(w.newPod("pod")))[0]
	w.eventually("the old volume to go", func() bool { return !w.exists(f.Path) })
	w.must(w.review(again, w.waitFile(again.Path)))
}

// TestRebootMountsAgain: after a reboot the directories are there, and the mounts
// are not.
func TestRebootMountsAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady("--volume-medium=tmpfs")
	pod := w.create(w.newPod("pod"))
	f := w.tokenFiles(pod)[0]
	first := w.waitFile(f.Path)
	w.must(d.Term())
	dir := w.volume(pod, pod.Spec.Volumes[0].Name)
	w.must(syscall.Unmount(dir, 0))
	w.startReady("--volume-medium=tmpfs")
	if second := w.waitFile(f.Path); second == first {
		t.Error("the token that was in memory is back")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	w.must(err)
	if n := strings.Count(string(mounts), " "+dir+" "); n != 1 {
		t.Errorf("%d mounts at %s, want 1", n, dir)
	}
	w.must(syscall.Unmount(dir, 0))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("below the mount there is %v, %v", left, err)
	}
}
