package projector

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const goneGrace = 5 * time.Minute

// testPublish is testWith for a projector that writes only what is published.
func testPublish(t *testing.T, f func(t *testing.T, h *harness, key Key)) {
	t.Helper()
	testWith(t, func(c *Config) {
		c.GoneGrace = goneGrace
		c.Chooses = func(*corev1.Pod) bool { return false }
	}, func(t *testing.T, h *harness) { f(t, h, Key{"u", "v"}) })
}

func (h *harness) publish(key Key) error {
	h.t.Helper()
	if err := h.p.Publish(key); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	return h.p.Await(ctx, key)
}

func TestPublish(t *testing.T) {
	testPublish(t, func(t *testing.T, h *harness, key Key) {
		h.apply(newPod("u"))
		h.assertToken("u", "")
		for range 2 { // it is the same the second time
			if err := h.publish(key); err != nil {
				t.Fatal(err)
			}
		}
		first := h.token("u")
		status := h.status("u")
		if !status.Published || status.Terminating || len(status.Files) != 3 || len(status.Tokens) != 1 {
			t.Errorf("status %+v", status)
		}
		if token := status.Tokens[0]; token.Path != "token" || token.ExpiresAt.Sub(token.IssuedAt) != lifetime || !token.RotateAt.Equal(status.NextRotation) {
			t.Errorf("token %+v", token)
		}
		set, err := h.p.Content(key)
		if f, ok := set.File("token"); err != nil || !ok || string(f.Data) == "" {
			t.Errorf("content %v", err)
		}
		h.sleep(lifetime)
		if h.token("u") == first {
			t.Error("it was not rotated")
		}
		for range 2 {
			if err := h.p.Unpublish(t.Context(), key); err != nil {
				t.Error(err)
			}
			if left := h.diskFiles("u"); len(left) > 0 || len(h.p.Volumes()) > 0 {
				t.Errorf("left: %q and %v", left, h.p.Volumes())
			}
		}
		if _, err := h.p.Content(key); !errors.Is(err, ErrNoVolume) {
			t.Errorf("content of what is gone: %v", err)
		}
	})
}

// TestPublishedOutlivesItsPod for a while, also over a restart, and not for ever.
func TestPublishedOutlivesItsPod(t *testing.T) {
	restart := func(h *harness) { h.stop(); h.start() }
	nothing := func(*harness) {}
	for name, tt := range map[string]struct{ before, after func(*harness) }{ // the end of the Pod
		"served on": {nothing, nothing}, "restarted": {nothing, restart}, "restarted before": {restart, nothing},
	} {
		t.Run(name, func(t *testing.T) {
			testPublish(t, func(t *testing.T, h *harness, key Key) {
				pod := newPod("u")
				h.apply(pod)
				if err := h.publish(key); err != nil {
					t.Fatal(err)
				}
				token := h.token("u")
				tt.before(h)
				h.apply(pod)
				h.change(func(c *fakeCluster) { delete(c.truth, "u"); delete(c.watch, "u") })
				h.p.Deleted(pod)
				h.sleep(time.Second)
				tt.after(h)
				h.sleep(goneGrace - time.Minute)
				h.assertToken("u", token)
				if !h.status("u").Terminating {
					t.Error("its status does not say that it ends")
				}
				h.sleep(2 * time.Minute)
				h.assertToken("u", "")
				if n := len(h.p.Volumes()); n > 0 {
					t.Errorf("%d volumes are known still", n)
				}
				if err := h.publish(key); !errors.Is(err, ErrNoPod) {
					t.Errorf("published anew: %v", err)
				}
			})
		})
	}
}

// TestPublishedStaysAfterAnEnd: a Pod that is over may be looked at by its runtime
// still, and an API server that has lost sight of it for a moment changes nothing.
func TestPublishedStaysAfterAnEnd(t *testing.T) {
	testPublish(t, func(t *testing.T, h *harness, key Key) {
		pod := newPod("u")
		h.apply(pod)
		if err := h.publish(key); err != nil {
			t.Fatal(err)
		}
		token := h.token("u")
		h.loseSight(pod)
		h.sleep(2 * goneGrace)
		h.assertToken("u", token)
		over := newPod("u")
		over.Status.Phase = corev1.PodSucceeded
		h.apply(over)
		h.sleep(2 * goneGrace)
		h.assertToken("u", token)
	})
}

// TestPublishThatFails says what there is to be waited for: nothing.
func TestPublishThatFails(t *testing.T) {
	over, ending := newPod("u"), newPod("u")
	over.Status.Phase = corev1.PodFailed
	ending.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(time.Hour)}
	tests := []struct {
		name string
		pod  *corev1.Pod
		key  Key
		want error
	}{
		{"no such Pod", nil, Key{"u", "v"}, ErrNoPod},
		{"no such volume", newPod("u"), Key{"u", "other"}, ErrDeclaration},
		{"a Pod that is over", over, Key{"u", "v"}, ErrTerminating},
		{"a Pod that ends", ending, Key{"u", "v"}, ErrTerminating},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testPublish(t, func(t *testing.T, h *harness, _ Key) {
				if tt.pod != nil {
					h.apply(tt.pod)
				}
				if err := h.publish(tt.key); !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				// Once the Pod is gone, nothing is left to be asked about.
				h.change(func(c *fakeCluster) { delete(c.truth, "u"); delete(c.watch, "u") })
				h.p.EnqueueAll()
				h.sleep(2 * goneGrace)
				h.change(func(c *fakeCluster) { c.confirmations = 0 })
				h.sleep(24 * time.Hour)
				h.change(func(c *fakeCluster) {
					if n := len(h.p.Volumes()); n > 0 || c.confirmations > 0 {
						t.Errorf("%d volumes are known still, and the API server was asked %d times in a day", n, c.confirmations)
					}
				})
			})
		})
	}
	testPublish(t, func(t *testing.T, h *harness, _ Key) {
		for _, key := range []Key{{"..", "v"}, {"u", "../../x"}, {"u", ""}, {"u", "a\x00"}} {
			if err := h.publish(key); err == nil || !strings.Contains(err.Error(), "not a name for a directory") {
				t.Errorf("%q: %v", key, err)
			}
		}
	})
}

// TestRotateOne leaves the tokens of others alone, and each change is told.
func TestRotateOne(t *testing.T) {
	var told atomic.Int64
	testWith(t, func(c *Config) { c.Changed = func(Key) { told.Add(1) } }, func(t *testing.T, h *harness) {
		other := newPod("other")
		other.Name = "other"
		h.apply(newPod("u"))
		h.apply(other)
		mine, others := h.token("u"), h.token("other")
		told.Store(0)
		if n, err := h.p.Rotate(Key{"u", "v"}, time.Millisecond); n != 1 || err != nil {
			t.Fatalf("%d tokens, %v", n, err)
		}
		h.sleep(time.Second)
		if h.token("u") == mine {
			t.Error("it was not rotated")
		}
		h.assertToken("other", others)
		if told.Load() == 0 {
			t.Error("nobody was told")
		}
		if _, err := h.p.Rotate(Key{"u", "none"}, time.Millisecond); !errors.Is(err, ErrNoVolume) {
			t.Errorf("a volume that does not exist: %v", err)
		}
	})
}

// TestPublishedAgainAfterItsEnd: who publishes the volume of a Pod once more whose tokens
// nobody accepts any longer, after a restart, has it as it is and does not wait for ever.
func TestPublishedAgainAfterItsEnd(t *testing.T) {
	testPublish(t, func(t *testing.T, h *harness, key Key) {
		pod := newPod("u")
		h.apply(pod)
		if err := h.publish(key); err != nil {
			t.Fatal(err)
		}
		token := h.token("u")
		pod = pod.DeepCopy()
		pod.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(-2 * tokensDieAfter)}
		h.apply(pod)
		h.stop()
		h.start()
		if err := h.publish(key); err != nil {
			t.Errorf("published again: %v", err)
		}
		if status := h.status("u"); !status.Published || !status.Terminating {
			t.Errorf("status %+v", status)
		}
		h.assertToken("u", token)
		if problem := h.status("u").Problem; problem != "" {
			t.Errorf("it counts as failing: %s", problem)
		}
		if err := h.p.Unpublish(t.Context(), key); err != nil {
			t.Error(err)
		}
		h.assertToken("u", "")
	})
}

// TestPublishedAfterAnAbortedEnd: what was about to be removed is written anew, and not
// taken for published.
func TestPublishedAfterAnAbortedEnd(t *testing.T) {
	testPublish(t, func(t *testing.T, h *harness, key Key) {
		h.apply(newPod("u"))
		if err := h.publish(key); err != nil {
			t.Fatal(err)
		}
		path, err := volumePath(h.root, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.p.medium.release(path); err != nil { // as a removal that went no further
			t.Fatal(err)
		}
		h.p.mu.Lock()
		err = errors.Join(h.p.claimLocked(key, claim{path: path, ending: true}), h.p.claimLocked(key, claim{path: path}))
		h.p.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := h.p.Await(ctx, key); err != nil || h.token("u") == "" {
			t.Errorf("token %q, %v", h.token("u"), err)
		}
	})
}
