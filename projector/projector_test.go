package projector

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/rotation/rotationtest"
)

var errAway = errors.New("the API server is away")

func TestPublishesAndRotatesWhenDue(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		h.assertToken("u", "1")
		h.assertPhase("u", PhaseReady)
		var paths []string
		for _, f := range h.set("u").Files {
			paths = append(paths, f.Path)
		}
		if !slices.Equal(paths, []string{"ca.crt", "name", "token"}) {
			t.Errorf("files %q", paths)
		}
		for n := 2; n < 50; n++ {
			due := h.status("u").NextRotation
			if left := time.Until(due); left <= 0 || left > lifetime*8/10 {
				t.Fatalf("token %d is due in %v", n-1, left)
			}
			h.sleep(time.Until(due) - time.Nanosecond)
			h.assertToken("u", fmt.Sprint(n-1))
			h.sleep(2 * time.Millisecond) // the queue's timers round up
			h.assertToken("u", fmt.Sprint(n))
		}
		if h.minter.Calls() != 49 {
			t.Errorf("%d mints for 49 tokens", h.minter.Calls())
		}
	})
}

func TestRemovesOnlyWhatIsConfirmedGone(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		pod := newPod("u")
		h.apply(pod)

		h.loseSight(pod) // an empty or stale relist
		h.sleep(10 * time.Minute)
		h.assertToken("u", "1")

		h.change(func(c *fakeCluster) { c.confirmErr = errAway; delete(c.truth, "u") })
		h.sleep(10 * time.Minute)
		h.assertToken("u", "1")

		h.change(func(c *fakeCluster) { c.confirmErr = nil })
		h.sleep(lastRetry)
		h.assertToken("u", "")
		left, err := os.ReadDir(filepath.Join(h.root, "pods"))
		if err != nil || len(left) != 0 {
			t.Errorf("left on disk: %v, %v", left, err)
		}
		if v := h.p.Volumes(); len(v) != 0 || len(h.cluster.users) != 0 {
			t.Errorf("left in memory: %v, in use: %v", v, h.cluster.users)
		}
	})
}

func TestLostAndFoundPodGoesOn(t *testing.T) {
	test(t, func(_ *testing.T, h *harness) {
		pod := newPod("u")
		h.apply(pod)
		h.loseSight(pod)
		h.sleep(time.Hour) // longer than a period: nothing may be minted blindly
		h.apply(pod)
		h.assertToken("u", "2")
		h.assertPhase("u", PhaseReady)
	})
}

func TestPodsThatEnd(t *testing.T) {
	phase := func(p corev1.PodPhase) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Status.Phase = p }
	}
	tests := []struct {
		name   string
		mutate func(*corev1.Pod)
		stays  bool
	}{
		{"succeeded", phase(corev1.PodSucceeded), false},
		{"failed", phase(corev1.PodFailed), false},
		{"running", phase(corev1.PodRunning), true},
		{"unknown", phase(corev1.PodUnknown), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			test(t, func(t *testing.T, h *harness) {
				h.apply(newPod("u"))
				ended := newPod("u")
				tt.mutate(ended)
				h.apply(ended)
				if stays := h.token("u") != ""; stays != tt.stays {
					t.Errorf("volume stays: %v, want %v", stays, tt.stays)
				}
			})
		})
	}
}

func terminating(uid string, grace time.Duration) *corev1.Pod {
	pod := newPod(uid)
	at := metav1.NewTime(time.Now().Add(grace))
	pod.DeletionTimestamp = &at
	return pod
}

func TestRotatesWhileThePodTerminates(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		h.apply(terminating("u", 5*time.Hour))
		h.sleep(5 * time.Hour)
		minted := h.minter.Calls()
		if minted < 6 {
			t.Errorf("%d tokens in five hours of termination, want one for each 48 minutes at least", minted)
		}
		// From 60 s after the deletionTimestamp on every token is refused.
		h.sleep(5 * time.Hour)
		if more := h.minter.Calls() - minted; more > 1 {
			t.Errorf("%d tokens minted that the API server refuses", more)
		}
		if h.token("u") == "" {
			t.Error("the volume is gone while the Pod's object is there")
		}
	})
}

func TestTerminatingPodGetsNothingNew(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(terminating("u", time.Hour))
		h.sleep(time.Hour)
		if h.token("u") != "" || h.minter.Calls() != 0 {
			t.Errorf("a terminating Pod got its first token, %d mints", h.minter.Calls())
		}
	})
}

func TestFirstPublicationNeedsEverySource(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		ca := h.cluster.configMaps["ns/ca"]
		h.change(func(c *fakeCluster) { delete(c.configMaps, "ns/ca") })
		h.apply(newPod("broken"))
		good := newPod("good")
		good.Spec.Volumes[0].Projected.Sources = good.Spec.Volumes[0].Projected.Sources[:1]
		h.apply(good)

		h.assertToken("broken", "")
		h.assertPhase("broken", PhasePending)
		if problem := h.status("broken").Problem; !strings.Contains(problem, `sources[1].configMap: ConfigMap "ca"`) {
			t.Errorf("problem %q does not name the source", problem)
		}
		h.assertPhase("good", PhaseReady)

		h.change(func(c *fakeCluster) { c.configMaps["ns/ca"] = ca })
		h.sleep(lastRetry)
		h.assertPhase("broken", PhaseReady)
		if h.minter.Calls() != 2 {
			t.Errorf("%d mints for two Pods: waiting for a source must not mint again", h.minter.Calls())
		}
	})
}

func TestLaterFailureKeepsBytesAndRotatesTheRest(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		h.change(func(c *fakeCluster) { delete(c.configMaps, "ns/ca") })
		h.sleep(lifetime)
		h.assertPhase("u", PhaseDegraded)
		if h.token("u") == "1" {
			t.Error("a missing ConfigMap stopped the token's rotation")
		}
		if f, ok := h.set("u").File("ca.crt"); !ok || string(f.Data) != "CA" {
			t.Errorf("the missing ConfigMap's file is %q, %v; want its last good content", f.Data, ok)
		}
		h.stop()
		h.start() // it must hold after a restart too
		h.sleep(lifetime)
		h.assertPhase("u", PhaseDegraded)
		if f, ok := h.set("u").File("ca.crt"); !ok || string(f.Data) != "CA" {
			t.Errorf("after a restart the file is %q, %v", f.Data, ok)
		}
	})
}

func TestOldTokenStaysWhileTheServerIsAway(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		due := h.status("u").NextRotation
		h.minter.Behave(rotationtest.Behaviour{Err: errAway})
		h.sleep(time.Until(due) + time.Minute)
		h.assertToken("u", "1")
		h.assertPhase("u", PhaseDegraded)
		if calls := h.minter.Calls(); calls < 5 || calls > 30 {
			t.Errorf("%d attempts in the first minute of an outage, want a backoff", calls)
		}
		h.minter.Behave(rotationtest.Behaviour{})
		h.sleep(lastRetry)
		h.assertPhase("u", PhaseReady)
		if h.token("u") == "1" {
			t.Error("not rotated after the outage")
		}
	})
}

func TestRestartMintsAndChangesNothing(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		for n := range 20 {
			h.apply(newPod(fmt.Sprint(n)))
		}
		h.sleep(time.Minute)
		minted := h.minter.Calls()
		var dues []time.Time
		var generations []string
		for n := range 20 {
			dues = append(dues, h.status(fmt.Sprint(n)).NextRotation)
			generations = append(generations, h.set(fmt.Sprint(n)).Generation)
		}
		h.stop()
		h.start()
		for n := range 20 {
			uid := fmt.Sprint(n)
			if got := h.status(uid).NextRotation; !got.Equal(dues[n]) {
				t.Errorf("Pod %d is due at %v, before the restart at %v", n, got, dues[n])
			}
			if got := h.set(uid).Generation; got != generations[n] {
				t.Errorf("Pod %d: the restart wrote generation %s over %s", n, got, generations[n])
			}
		}
		if h.minter.Calls() != minted {
			t.Errorf("the restart minted %d tokens, want 0", h.minter.Calls()-minted)
		}
	})
}

func TestAdoptsNoForgedToken(t *testing.T) {
	now := time.Now().Unix()
	claims := func(uid string, seconds int64) string {
		return rotationtest.JWT(fmt.Sprintf(`{"jti": "forged", "aud": "", "iat": %d, "exp": %d, "kubernetes.io": {"pod": {"uid": %q}}}`,
			now, now+seconds, uid))
	}
	for name, content := range map[string]string{
		"garbage":        "garbage",
		"empty":          "",
		"of another Pod": claims("other", 3600),
		"expired":        claims("u", -1),
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(t *testing.T, h *harness) {
				h.apply(newPod("u"))
				h.stop()
				current := filepath.Join(h.dir("u"), "..data", "token")
				if err := os.WriteFile(current, []byte(content), 0644); err != nil {
					t.Fatal(err)
				}
				h.start()
				h.assertToken("u", "2")
			})
		})
	}
}

func TestRemovesLeftoversOfGonePods(t *testing.T) {
	test(t, func(_ *testing.T, h *harness) {
		h.apply(newPod("gone"))
		h.apply(newPod("there"))
		h.stop()
		h.change(func(c *fakeCluster) { delete(c.watch, "gone"); delete(c.truth, "gone") })
		h.start()
		h.assertToken("gone", "")
		h.assertToken("there", "2")
	})
}

func TestLateAnswerForAGonePodIsThrownAway(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.minter.Behave(rotationtest.Behaviour{Delay: time.Minute})
		pod := newPod("u")
		h.apply(pod)
		h.change(func(c *fakeCluster) { delete(c.truth, "u") })
		h.loseSight(pod)
		h.sleep(2 * time.Minute)
		if _, err := os.Stat(h.dir("u")); !os.IsNotExist(err) {
			t.Errorf("a volume was made for a Pod that is gone: %v", err)
		}
	})
}

func TestPanicStaysInItsVolume(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.change(func(c *fakeCluster) { c.panics = true })
		h.apply(newPod("u"))
		good := newPod("good")
		good.Spec.Volumes[0].Projected.Sources = good.Spec.Volumes[0].Projected.Sources[:1]
		h.apply(good)
		h.assertPhase("good", PhaseReady)
		if problem := h.status("u").Problem; !strings.Contains(problem, "panic") || strings.Contains(problem, "secret text") {
			t.Errorf("problem %q", problem)
		}
		h.change(func(c *fakeCluster) { c.panics = false })
		h.sleep(lastRetry)
		h.assertPhase("u", PhaseReady)
	})
}

func TestChoosesNewVolumesOnly(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("before"))
		h.stop()
		h.chooses = func(p *corev1.Pod) bool { return p.Labels["app"] == "web" }
		h.start()
		chosen := newPod("chosen")
		chosen.Labels = map[string]string{"app": "web"}
		h.apply(chosen)
		h.apply(newPod("not-chosen"))
		h.assertPhase("chosen", PhaseReady)
		h.assertToken("not-chosen", "")
		if v := h.status("not-chosen"); v.Phase != "" {
			t.Errorf("a volume that is not to be served counts as %s", v.Phase)
		}
		h.sleep(lifetime)
		if token := h.token("before"); token == "" || token == "1" {
			t.Errorf("token %q; a volume that was there before the choice must stay and stay current", token)
		}
	})
}

func TestRemovedVolumeIsNotAskedAboutAgain(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		pod := newPod("u")
		h.apply(pod)
		h.change(func(c *fakeCluster) { delete(c.truth, "u") })
		h.loseSight(pod)
		h.assertToken("u", "")
		h.change(func(c *fakeCluster) { c.confirmations = 0; c.confirmErr = errAway })
		h.sleep(2 * lifetime) // its old due time comes and goes
		h.p.Enqueue(pod)
		h.sleep(time.Minute)
		if h.cluster.confirmations != 0 || len(h.p.Volumes()) != 0 {
			t.Errorf("%d questions about a volume that is long gone, and %v", h.cluster.confirmations, h.p.Volumes())
		}
	})
}

func TestPartialSetIsNeverAFirstPublication(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		h.apply(newPod("u"))
		h.change(func(c *fakeCluster) { delete(c.configMaps, "ns/ca") })
		if err := os.RemoveAll(h.dir("u")); err != nil { // somebody removed the volume
			t.Fatal(err)
		}
		h.sleep(lifetime)
		if files := h.diskFiles("u"); len(files) != 0 {
			t.Errorf("published %v without its ConfigMap", files)
		}
	})
}

func TestRefusesNamesThatAreNoDirectories(t *testing.T) {
	test(t, func(t *testing.T, h *harness) {
		for _, uid := range []string{"..", ".", "a/b", "../../x", "a\x00b"} {
			h.apply(newPod(uid))
			if problem := h.status(uid).Problem; !strings.Contains(problem, "not a name for a directory") {
				t.Errorf("Pod UID %q: problem %q", uid, problem)
			}
		}
		if left, err := os.ReadDir(h.root); err != nil || len(left) != 0 {
			t.Errorf("made on disk: %v, %v", left, err)
		}
	})
}

func TestNew(t *testing.T) {
	if _, err := New(Config{Root: "relative"}); err == nil {
		t.Error("a relative root is taken")
	}
	if _, err := New(Config{Root: "/r"}); err == nil {
		t.Error("nil parts are taken")
	}
}
