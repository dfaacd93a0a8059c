package projector

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

const testDriver = "csi.example"

// testClaims is testWith for a projector that writes claimed volumes only.
func testClaims(t *testing.T, f func(t *testing.T, h *harness, key Key, path string)) {
	t.Helper()
	testWith(t, func(c *Config) {
		c.CSIDriver = testDriver
		c.Chooses = func(*corev1.Pod) bool { return false }
	}, func(t *testing.T, h *harness) {
		parent := filepath.Join(t.TempDir(), "volume")
		if err := os.Mkdir(parent, 0750); err != nil {
			t.Fatal(err)
		}
		h.change(func(c *fakeCluster) {
			c.configMaps["ns/kube-root-ca.crt"] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": "CA"}}
		})
		f(t, h, Key{"u", "v"}, filepath.Join(parent, "mount"))
	})
}

// csiPod is a Pod with an inline volume of our driver.
func csiPod(attributes map[string]string) *corev1.Pod {
	pod := newPod("u")
	pod.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: testDriver, VolumeAttributes: attributes}}
	return pod
}

// await starts to wait, and returns what came of it, or errWaiting.
func (h *harness) await(key Key) (result func() error, stop func()) {
	ctx, stop := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.p.Await(ctx, key) }()
	synctest.Wait()
	return func() error {
		select {
		case err := <-done:
			return err
		default:
			return errWaiting
		}
	}, stop
}

var errWaiting = errors.New("it waits")

// tokenAt is the token's file in a claimed volume.
func tokenAt(t *testing.T, path string) string {
	t.Helper()
	set, err := atomicdir.New(path).Read()
	if err != nil {
		t.Fatal(err)
	}
	f, _ := set.File("token")
	return string(f.Data)
}

func TestClaim(t *testing.T) {
	testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
		h.p.Claim(key, path)
		result, stop := h.await(key)
		defer stop()
		if err := result(); !errors.Is(err, errWaiting) {
			t.Fatalf("for a Pod that is not known yet: %v", err)
		}
		h.apply(csiPod(nil))
		if err := result(); err != nil {
			t.Fatalf("for a Pod that is: %v", err)
		}
		first := tokenAt(t, path)
		h.sleep(2 * lifetime)
		if second := tokenAt(t, path); first == "" || second == first {
			t.Errorf("tokens %q and %q", first, second)
		}
		h.p.Claim(key, path) // again
		if err := h.p.Await(t.Context(), key); err != nil {
			t.Error(err)
		}

		// The Pod goes, and the volume stays until it is given back.
		h.change(func(c *fakeCluster) { delete(c.truth, "u") })
		h.loseSight(csiPod(nil))
		h.sleep(2 * lifetime)
		if tokenAt(t, path) == "" {
			t.Error("a claimed volume went with its Pod")
		}
		for range 2 {
			if err := h.p.Unclaim(t.Context(), key, path); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		}
		if n := len(h.p.Volumes()); n != 0 {
			t.Errorf("%d volumes are known still", n)
		}
	})
}

// TestClaimIsAdopted: a new process serves what an earlier one has published,
// without a request.
func TestClaimIsAdopted(t *testing.T) {
	testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
		h.apply(csiPod(nil))
		h.p.Claim(key, path)
		if err := h.p.Await(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		before, minted := tokenAt(t, path), h.minter.Calls()
		h.stop()
		h.start()
		h.p.Claim(key, path)
		if err := h.p.Await(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if after := tokenAt(t, path); after != before || h.minter.Calls() != minted {
			t.Errorf("another token, by %d requests", h.minter.Calls()-minted)
		}
	})
}

// TestClaimThatFails: who waits is told what only others can change, and not what
// passes.
func TestClaimThatFails(t *testing.T) {
	tests := []struct {
		name string
		pod  *corev1.Pod
		says string
	}{
		{"bad attributes", csiPod(map[string]string{"sources": "- serviceAccountToken: {}"}), "serviceAccountToken.path is required"},
		{"a ConfigMap that does not exist", csiPod(map[string]string{"sources": "[{serviceAccountToken: {path: t}}, {configMap: {name: nope}}]"}), `ConfigMap "nope"`},
		{"another driver's", newPod("u"), "declares no volume of " + testDriver},
		{"a Pod that does not exist", nil, "has no Pod with this UID"},
		{"a Pod that ends", func() *corev1.Pod {
			pod := csiPod(nil)
			pod.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(time.Hour)}
			return pod
		}(), "is terminating"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testClaims(t, func(t *testing.T, h *harness, key Key, path string) {
				if tt.pod != nil {
					h.apply(tt.pod)
				}
				h.p.Claim(key, path)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := h.p.Await(ctx, key); err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error %v, want %q", err, tt.says)
				}
				if err := h.p.Unclaim(t.Context(), key, path); err != nil {
					t.Error(err)
				}
				if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
					t.Errorf("left: %v, %v", left, err)
				}
			})
		})
	}
}
