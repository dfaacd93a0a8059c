package projector

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// TestEventsOnChangesOnly: one for each problem, however many passes it lasts,
// and one when it is over.
func TestEventsOnChangesOnly(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		events := func() (reasons []string) {
			h.change(func(c *fakeCluster) { reasons = c.events; c.events = nil })
			return reasons
		}
		h.change(func(c *fakeCluster) { c.secrets = nil })
		pod := newPod("u")
		sources := &pod.Spec.Volumes[0].Projected.Sources
		*sources = append(*sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: "s"},
		}})
		h.apply(pod)
		h.sleep(time.Hour)
		if got := events(); !slices.Equal(got, []string{ReasonSource}) {
			t.Errorf("while a Secret is missing: %v", got)
		}
		h.change(func(c *fakeCluster) { c.secrets = map[string]map[string][]byte{"ns/s": {"password": []byte("p")}} })
		h.sleep(lastRetry)
		h.assertPhase("u", PhaseReady)
		if got := events(); !slices.Equal(got, []string{ReasonRecovered}) {
			t.Errorf("when it was made: %v", got)
		}

		h.change(func(c *fakeCluster) { c.secrets = nil })
		h.p.EnqueueVolume(Key{"u", "v"})
		synctest.Wait()
		h.assertPhase("u", PhaseDegraded)
		if f, ok := h.set("u").File("password"); !ok || string(f.Data) != "p" {
			t.Errorf("the deleted Secret's file is %q, %v; want its last good content", f.Data, ok)
		}
		h.sleep(time.Hour)
		if got := events(); !slices.Equal(got, []string{ReasonSource}) {
			t.Errorf("when it was deleted: %v", got)
		}
	})
}

func TestEventOfATokenThatCanNotBeHad(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.minter.Behave(rotationtest.Behaviour{Err: errAway})
		h.apply(newPod("u"))
		h.sleep(time.Minute)
		h.change(func(c *fakeCluster) {
			if !slices.Equal(c.events, []string{ReasonProjection}) {
				t.Errorf("events %v", c.events)
			}
		})
	})
}

// TestOldGenerationIsSwept: after a rotation the queue comes back when the
// grace ends, and not for anything else.
func TestOldGenerationIsSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarnessWith(t, func(c *Config) { c.GenerationGrace = 5 * time.Second })
		defer h.stop()
		h.apply(newPod("u"))
		first := h.set("u").Generation
		h.change(func(c *fakeCluster) {
			c.configMaps["ns/ca"] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": "another"}}
		})
		h.p.EnqueueVolume(Key{"u", "v"})
		synctest.Wait()
		if names := h.entries("u"); !slices.Contains(names, first) {
			t.Errorf("the old generation went at once: %v", names)
		}
		h.sleep(5 * time.Second)
		if names := h.entries("u"); slices.Contains(names, first) {
			t.Errorf("the old generation is still there: %v", names)
		}
	})
}

// TestWhatGrewTooLargeStaysAsItWas: the volume's tokens go on all the same.
func TestWhatGrewTooLargeStaysAsItWas(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		h.change(func(c *fakeCluster) {
			c.configMaps["ns/ca"] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": strings.Repeat("x", 17<<20)}}
		})
		h.p.EnqueueVolume(Key{"u", "v"})
		synctest.Wait()
		h.assertPhase("u", PhaseDegraded)
		h.sleep(lifetime)
		if h.token("u") == "1" {
			t.Error("the token was not rotated")
		}
		if f, ok := h.set("u").File("ca.crt"); !ok || string(f.Data) != "CA" {
			t.Errorf("the file that grew is %.20q, %v", f.Data, ok)
		}
		h.apply(newPod("new"))
		h.assertPhase("new", PhasePending)
	})
}

// TestTotalSizeLimit: what would go beyond it waits; what is there goes on, and its
// tokens rotate, also after a restart with a smaller limit.
func TestTotalSizeLimit(t *testing.T) {
	const ofOne = 2 * 3 * 4096 // two sets of three files
	limit := int64(2 * ofOne)
	testWith(t, func(c *Config) { c.TotalSizeLimit = limit }, func(t *testing.T, h *harness) {
		h.apply(newPod("one"))
		h.apply(newPod("two"))
		h.apply(newPod("three"))
		h.assertPhase("one", PhaseReady)
		h.assertPhase("two", PhaseReady)
		h.assertPhase("three", PhasePending)
		if problem := h.status("three").Problem; !strings.Contains(problem, "--total-size-limit") {
			t.Errorf("it says %q", problem)
		}
		gone := newPod("two")
		h.change(func(c *fakeCluster) { delete(c.truth, "two") })
		h.loseSight(gone)
		h.sleep(lastRetry)
		h.assertPhase("three", PhaseReady)

		h.stop()
		limit = 1
		h.start()
		before := h.token("one")
		h.sleep(lifetime)
		h.assertPhase("one", PhaseReady)
		if h.token("one") == before {
			t.Error("the token was not rotated")
		}
	})
}

// TestLargeSourceIsNotCopied: a volume's limit holds before its files are built.
func TestLargeSourceIsNotCopied(t *testing.T) {
	testWith(t, func(c *Config) { c.SizeLimit = 64 << 10 }, func(t *testing.T, h *harness) {
		h.change(func(c *fakeCluster) {
			c.configMaps["ns/ca"] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": strings.Repeat("x", 33<<10)}}
		})
		h.apply(newPod("u"))
		h.assertPhase("u", PhasePending)
		if problem := h.status("u").Problem; !strings.Contains(problem, "sources[1].configMap: it has 33792 bytes, and the volume has room for 32768") {
			t.Errorf("it says %q", problem)
		}
	})
}
