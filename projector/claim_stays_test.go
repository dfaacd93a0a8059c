package projector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// ask claims a volume and waits, as a kubelet has the driver do.
func (h *harness) ask(key Key, path string) error {
	h.p.Claim(key, path)
	return h.p.Await(h.t.Context(), key)
}

// TestClaimedStays: a kubelet that was restarted asks for what is published once more,
// and must not be told that it failed: it would have it unmounted below containers.
func TestClaimedStays(t *testing.T) {
	withApp := map[string]string{"sources": "[{serviceAccountToken: {path: token}}, {configMap: {name: app}}]"}
	tests := []struct {
		name   string
		change func(*fakeCluster) // while no process runs
	}{
		{"a source is missing", func(c *fakeCluster) { delete(c.configMaps, "ns/app") }},
		{"a stricter version", func(c *fakeCluster) { c.watch["u"] = csiPod(map[string]string{"audience": "x"}) }},
		{"the Pod has another volume", func(c *fakeCluster) { c.watch["u"] = newPod("u") }},
		{"the Pod is over", func(c *fakeCluster) {
			over := csiPod(withApp)
			over.Status.Phase = corev1.PodSucceeded
			c.watch["u"] = over
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
				h.change(func(c *fakeCluster) {
					c.configMaps["ns/app"] = &corev1.ConfigMap{Data: map[string]string{"a": "1"}}
				})
				h.apply(csiPod(withApp))
				if err := h.ask(key, path); err != nil {
					t.Fatal(err)
				}
				before := tokenAt(t, path)
				h.stop()
				h.change(tt.change)
				h.start()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				h.p.Claim(key, path)
				if err := h.p.Await(ctx, key); err != nil {
					t.Errorf("it is published, and the answer is %v", err)
				}
				if tokenAt(t, path) != before {
					t.Error("another token, or none")
				}
			})
		})
	}
}

// TestClaimDuringAFailingPass: what a pass that was under way ends with says nothing.
func TestClaimDuringAFailingPass(t *testing.T) {
	testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
		h.apply(csiPod(nil))
		if err := h.ask(key, path); err != nil {
			t.Fatal(err)
		}
		h.p.Claim(key, path)
		h.p.noteClaim(key, errors.New("no token"))
		if err := h.p.Await(t.Context(), key); err != nil {
			t.Error(err)
		}
		given := make(chan error, 1)
		go func() { given <- h.p.Unclaim(t.Context(), key, path) }()
		h.p.noteClaim(key, errors.New("no token"))
		if err := <-given; err != nil {
			t.Errorf("given back: %v", err)
		}
	})
}

// TestUnclaimWhileRequestsHang: to remove a volume needs no API server, and does not
// wait behind those who do.
func TestUnclaimWhileRequestsHang(t *testing.T) {
	testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
		h.apply(csiPod(nil))
		if err := h.ask(key, path); err != nil {
			t.Fatal(err)
		}
		h.minter.Behave(rotationtest.Behaviour{Delay: 10 * time.Second, Err: context.DeadlineExceeded})
		for i := range 4 * workers {
			pod := csiPod(nil)
			pod.UID = types.UID(fmt.Sprintf("u%d", i))
			dir := filepath.Join(t.TempDir(), "v")
			if err := os.Mkdir(dir, 0750); err != nil {
				t.Fatal(err)
			}
			h.change(func(c *fakeCluster) { c.watch[pod.UID] = pod })
			h.p.Claim(Key{pod.UID, "v"}, filepath.Join(dir, "mount"))
		}
		synctest.Wait()
		time.Sleep(5 * time.Minute)
		began := time.Now()
		if err := h.p.Unclaim(t.Context(), key, path); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestRuntimeLeavesClaims: by its id a runtime can neither take a kubelet's volume nor
// remove it.
func TestRuntimeLeavesClaims(t *testing.T) {
	testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
		h.apply(csiPod(nil))
		if err := h.ask(key, path); err != nil {
			t.Fatal(err)
		}
		before := tokenAt(t, path)
		for what, err := range map[string]error{"published": h.p.Publish(key), "unpublished": h.p.Unpublish(t.Context(), key)} {
			if !errors.Is(err, ErrDeclaration) || !strings.Contains(err.Error(), "CSI driver") {
				t.Errorf("%s: %v", what, err)
			}
		}
		h.sleep(2 * lifetime)
		if after := tokenAt(t, path); after == before || after == "" {
			t.Error("it is not rotated any more")
		}
	})
}

// TestClaimedWithoutAWatch goes on as long as the API server has the Pod.
func TestClaimedWithoutAWatch(t *testing.T) {
	testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
		pod := csiPod(nil)
		h.apply(pod)
		if err := h.ask(key, path); err != nil {
			t.Fatal(err)
		}
		before := tokenAt(t, path)
		h.change(func(c *fakeCluster) { c.vouches = map[types.UID]*corev1.Pod{"u": pod} })
		h.loseSight(pod)
		h.sleep(2 * lifetime)
		if after := tokenAt(t, path); after == before || after == "" {
			t.Error("it is not rotated any more")
		}
	})
}
