package projector

import (
	"fmt"
	"testing"
	"time"
)

// TestHoldsAMassDisappearance: many Pods that are gone at once, without a
// deletion, may be another cluster's truth.
func TestHoldsAMassDisappearance(t *testing.T) {
	const pods = 10
	for _, tt := range []struct {
		name    string
		gone    int
		told    bool // the deletions are
		restart bool
		hold    time.Duration
		held    bool
	}{
		{"all vanish", pods, false, false, time.Hour, true},
		{"half vanish", pods / 2, false, false, time.Hour, true},
		{"few vanish", massLeast - 1, false, false, time.Hour, false},
		{"all are deleted", pods, true, false, time.Hour, false},
		{"all vanish, and nothing is held", pods, false, false, 0, false},
		{"all vanish while the process is down", pods, false, true, time.Hour, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testWith(t, func(c *Config) { c.MassRemovalHold = tt.hold }, func(t *testing.T, h *harness) {
				for n := range pods {
					h.apply(newPod(fmt.Sprint("u", n)))
				}
				if tt.restart {
					h.stop()
				}
				h.change(func(c *fakeCluster) {
					for n := range tt.gone {
						pod := newPod(fmt.Sprint("u", n))
						delete(c.watch, pod.UID)
						delete(c.truth, pod.UID)
					}
				})
				if tt.restart {
					h.start()
				}
				for n := range tt.gone {
					if tt.told {
						h.p.Deleted(newPod(fmt.Sprint("u", n)))
					} else {
						h.p.Enqueue(newPod(fmt.Sprint("u", n)))
					}
				}
				h.sleep(time.Minute)
				left := 0
				for n := range tt.gone {
					if len(h.diskFiles(fmt.Sprint("u", n))) > 0 {
						left++
					}
				}
				if want := map[bool]int{true: tt.gone}[tt.held]; left != want {
					t.Fatalf("%d of %d volumes are left, want %d", left, tt.gone, want)
				}
				if tt.held && !h.status("u0").Held {
					t.Error("nothing says that the volume is held")
				}
				h.sleep(2 * time.Hour)
				for n := range pods {
					files := h.diskFiles(fmt.Sprint("u", n))
					if gone := n < tt.gone; gone != (len(files) == 0) {
						t.Errorf("after the hold volume %d has %q", n, files)
					}
				}
			})
		})
	}
}

// TestHoldEndsWhenThePodsAreBack, as after an empty relist.
func TestHoldEndsWhenThePodsAreBack(t *testing.T) {
	testWith(t, func(c *Config) { c.MassRemovalHold = time.Hour }, func(t *testing.T, h *harness) {
		for n := range 10 {
			h.apply(newPod(fmt.Sprint("u", n)))
		}
		for n := range 10 {
			pod := newPod(fmt.Sprint("u", n))
			h.change(func(c *fakeCluster) { delete(c.truth, pod.UID) })
			h.loseSight(pod)
		}
		h.sleep(50 * time.Minute)
		for n := range 10 {
			h.apply(newPod(fmt.Sprint("u", n)))
		}
		h.sleep(30 * time.Minute)
		for n := range 10 {
			h.assertPhase(fmt.Sprint("u", n), PhaseReady)
		}
		if calls := h.minter.Calls(); calls < 10 || calls > 30 {
			t.Errorf("%d mints", calls)
		}
	})
}
