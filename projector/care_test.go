package projector

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// TestRotatesBesideAPathInTheWay: a ConfigMap that gains a key where another
// file's directory is must not keep tokens from rotating.
func TestRotatesBesideAPathInTheWay(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		pod := newPod("u")
		sources := &pod.Spec.Volumes[0].Projected.Sources
		*sources = append(*sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: "ca"},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "conf/ca"}},
		}})
		h.apply(pod)
		h.assertPhase("u", PhaseReady)
		h.change(func(c *fakeCluster) {
			c.configMaps["ns/ca"] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": "CA 2", "conf": "in the way"}}
		})
		h.p.Enqueue(pod)
		h.sleep(3 * lifetime)
		h.assertPhase("u", PhaseDegraded)
		if id := h.token("u"); id < "4" {
			t.Errorf("token %s after three lifetimes", id)
		}
		if got := string(h.set("u").Files[0].Data); got != "CA" {
			t.Errorf("ca.crt is %q, want what was published before", got)
		}
	})
}

// TestLeftAloneIsNotRecovered: a volume that is no longer served does not count
// as well again.
func TestLeftAloneIsNotRecovered(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		pod := newPod("u")
		h.apply(pod)
		h.change(func(c *fakeCluster) { delete(c.configMaps, "ns/ca") })
		h.p.Enqueue(pod)
		h.sleep(time.Minute)
		h.assertPhase("u", PhaseDegraded)
		ends := pod.DeepCopy()
		now := metav1.Now()
		ends.DeletionTimestamp = &now
		h.apply(ends)
		h.sleep(3 * time.Minute)
		h.assertPhase("u", PhaseDegraded)
		h.change(func(c *fakeCluster) {
			if slices.Contains(c.events, ReasonRecovered) {
				t.Errorf("events %q", c.events)
			}
			if len(c.users) != 0 {
				t.Errorf("%d volumes still use objects", len(c.users))
			}
		})
		if tokens, _, _ := h.p.cfg.Tokens.Held(); tokens != 0 {
			t.Errorf("%d tokens are held for it", tokens)
		}
	})
}

// TestEndByTheServersClock: deletionTimestamp is the API server's time.
func TestEndByTheServersClock(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		test(t, func(t *testing.T, h *harness) {
			h.change(func(c *fakeCluster) { c.ahead = ahead })
			pod := newPod("u")
			h.apply(pod)
			ends := pod.DeepCopy()
			ends.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(ahead).Add(time.Minute)}
			h.apply(ends)
			h.sleep(time.Second)
			if h.status("u").NextRotation.IsZero() {
				t.Errorf("server %v ahead: not served a minute before its deletionTimestamp", ahead)
			}
			h.sleep(checkInterval + time.Minute)
			if !h.status("u").NextRotation.IsZero() {
				t.Errorf("server %v ahead: still served minutes after its deletionTimestamp", ahead)
			}
		})
	}
}

// TestRepairsWhatOthersDid at the next check.
func TestRepairsWhatOthersDid(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		if err := os.RemoveAll(filepath.Join(h.dir("u"), "token")); err != nil {
			t.Fatal(err)
		}
		generation, err := os.Readlink(filepath.Join(h.dir("u"), "..data"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.dir("u"), generation, "name"), []byte("forged"), 0600); err != nil {
			t.Fatal(err)
		}
		h.sleep(checkInterval)
		h.assertToken("u", "1")
		if got := string(h.set("u").Files[1].Data); got != "pod" {
			t.Errorf("name is %q", got)
		}
		if h.minter.Calls() != 1 {
			t.Errorf("%d mints", h.minter.Calls())
		}
	})
}

// TestRotatesAfterSleep: timers do not run while a machine sleeps.
func TestRotatesAfterSleep(t *testing.T) {
	test(t, func(_ *testing.T, h *harness) {
		h.apply(newPod("u"))
		h.p.cfg.Tokens.ClockChanged(2 * lifetime)
		h.sleep(time.Second)
		h.assertToken("u", "2")
	})
}

// TestRotateAll reaches each volume's files.
func TestRotateAll(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		h.apply(newPod("v"))
		if n, within := h.p.cfg.Tokens.RotateAll(rotation.ForcedPace); n != 2 {
			t.Errorf("RotateAll() = %d, %v", n, within)
		}
		h.sleep(time.Second)
		if u, v := h.token("u"), h.token("v"); u < "3" || v < "3" || u == v {
			t.Errorf("tokens %s and %s", u, v)
		}
	})
}

// TestDiskFaultStaysInItsVolume, and is over when the fault is.
func TestDiskFaultStaysInItsVolume(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		blocked := filepath.Join(h.root, "pods", "bad", "volumes")
		if err := os.MkdirAll(filepath.Dir(blocked), 0750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blocked, nil, 0600); err != nil {
			t.Fatal(err)
		}
		h.apply(newPod("bad"))
		h.apply(newPod("good"))
		h.sleep(2 * lifetime)
		h.assertPhase("bad", PhasePending)
		h.assertPhase("good", PhaseReady)
		if id := h.token("good"); id < "3" {
			t.Errorf("token %s after two lifetimes", id)
		}
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		h.sleep(urgentRetry)
		h.assertPhase("bad", PhaseReady)
	})
}

// TestUrgentAfterAnOutage: a volume whose token has lapsed is looked at when it is
// said that the outage is over, also beside one that lives longer.
func TestUrgentAfterAnOutage(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		pod := newPod("u")
		day := int64(86400)
		pod.Spec.Volumes[0].Projected.Sources = append(pod.Spec.Volumes[0].Projected.Sources, corev1.VolumeProjection{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: &day, Path: "long"}})
		h.apply(pod)
		h.minter.Behave(rotationtest.Behaviour{Err: errAway})
		h.sleep(3 * lifetime)
		if left := time.Until(h.p.order.get(Key{PodUID: "u", Volume: "v"})); left > 0 {
			t.Errorf("the volume counts as valid for %v, with a token that has lapsed", left)
		}
		h.minter.Behave(rotationtest.Behaviour{})
		h.p.EnqueueUrgent()
		h.sleep(time.Millisecond)
		h.assertPhase("u", PhaseReady)
	})
}

// TestHoldBeginsAnew: that many Pods were missing once does not spend the hold.
func TestHoldBeginsAnew(t *testing.T) {
	testWith(t, func(c *Config) { c.MassRemovalHold = time.Hour }, func(t *testing.T, h *harness) {
		vanish := func() {
			for n := range 10 {
				pod := newPod(fmt.Sprint("u", n))
				h.change(func(c *fakeCluster) { delete(c.truth, pod.UID) })
				h.loseSight(pod)
			}
			h.sleep(time.Minute)
		}
		back := func() {
			for n := range 10 {
				h.apply(newPod(fmt.Sprint("u", n)))
			}
			h.sleep(24 * time.Hour)
		}
		back()
		vanish()
		back()
		vanish()
		for n := range 10 {
			if len(h.diskFiles(fmt.Sprint("u", n))) == 0 {
				t.Errorf("volume %d is gone a minute after its Pod vanished", n)
			}
		}
	})
}

// TestAdoptedIsCalledOnce, when each volume has been looked at.
func TestAdoptedIsCalledOnce(t *testing.T) {
	adopted := 0
	testWith(t, func(c *Config) { c.Adopted = func() { adopted++ } }, func(t *testing.T, h *harness) {
		if adopted != 1 {
			t.Errorf("called %d times without any volume, want once", adopted)
		}
		h.apply(newPod("u"))
		h.apply(newPod("v"))
		h.stop()
		h.change(func(c *fakeCluster) { delete(c.watch, "v"); c.confirmErr = errAway })
		h.start()
		h.sleep(time.Hour)
		if adopted != 2 || h.status("u").Phase != PhaseReady {
			t.Errorf("called %d times in two processes, want twice", adopted)
		}
	})
}

// TestServesAPodThatOnlyTheAPIHas: the watch has lost it, and a LIST finds it; that
// is no problem worth telling.
func TestServesAPodThatOnlyTheAPIHas(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		pod := newPod("u")
		h.apply(pod)
		h.change(func(c *fakeCluster) { c.vouches = map[types.UID]*corev1.Pod{"u": pod} })
		for range 20 {
			h.loseSight(pod)
			h.sleep(checkInterval)
		}
		if id := h.token("u"); id < "2" {
			t.Errorf("token %s after %v", id, 20*checkInterval)
		}
		h.change(func(c *fakeCluster) {
			if len(c.events) > 0 {
				t.Errorf("events %q", c.events)
			}
		})
	})
}

// TestRunsOnce: a second Run would work on the first one's volumes.
func TestRunsOnce(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		if err := h.p.Run(t.Context()); err == nil {
			t.Error("a second Run returned no error")
		}
	})
}
