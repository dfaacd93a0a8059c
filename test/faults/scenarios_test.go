//go:build faults

package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/proxy"
)

// TestReferee breaks something again and again while a referee reads all token
// files, and expects that it finds nothing. TestRefereeSees is its control.
func TestReferee(t *testing.T) {
	shared := startCluster(t)
	life := proxy.Rules{Lifetime: shortLife}
	t.Run("scenarios", func(t *testing.T) {
		for name, run := range map[string]func(t *testing.T) *scene{
			"api_stopped": func(t *testing.T) *scene {
				s := newScene(t, startCluster(t), life)
				for s.left(12 * time.Second) {
					s.cluster.APIServer.Kill()
					s.left(3 * time.Second)
					s.must(s.cluster.APIServer.Start(s.ctx))
				}
				return s
			},
			"api_frozen": func(t *testing.T) *scene {
				s := newScene(t, startCluster(t), life)
				for s.left(12 * time.Second) {
					s.must(s.cluster.APIServer.Freeze())
					s.left(5 * time.Second)
					s.must(s.cluster.APIServer.Thaw())
				}
				return s
			},
			"etcd_stopped": func(t *testing.T) *scene {
				s := newScene(t, startCluster(t), life)
				for s.left(12 * time.Second) {
					s.cluster.Etcd.Kill()
					s.left(3 * time.Second)
					s.must(s.cluster.Etcd.Start(s.ctx))
				}
				s.eventually("the API server to be ready again", func() bool {
					_, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{})
					return err == nil
				})
				return s
			},
			"silent": func(t *testing.T) *scene {
				s := newScene(t, shared, life)
				for s.left(10 * time.Second) {
					s.proxy.Freeze()
					s.left(6 * time.Second)
					s.proxy.Thaw()
				}
				return s
			},
			"half_open": func(t *testing.T) *scene {
				// A call is given up after 10 s, and a lifetime of 60 s leaves 12.
				s := newScene(t, shared, proxy.Rules{Lifetime: 2 * shortLife}, "--rotation-max-age=30s")
				for s.left(20 * time.Second) {
					s.proxy.Orphan()
				}
				return s
			},
			"throttled": func(t *testing.T) *scene {
				s := newScene(t, shared, life)
				// A third of all fail: that ten in a row do, which is about what fits into
				// the last 20% of such a life, is one in 60,000.
				s.proxy.Set(proxy.Rules{Lifetime: shortLife, RetryAfter: 1, Fail: func(r *http.Request) int {
					if !proxy.IsTokenRequest(r) || rand.IntN(3) > 0 {
						return 0
					}
					return []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}[rand.IntN(3)]
				}})
				for s.left(time.Second) {
				}
				return s
			},
			"long_outage": func(t *testing.T) *scene {
				// Longer than tokens live: they lapse, and must be replaced within the
				// time that docs/reliability.md states.
				const outage, bound = 70 * time.Second, 35 * time.Second
				s := newScene(t, shared, life)
				s.maxRequests = 20 // a token of a minute is tried every few seconds
				s.referee.Excuse(outage + bound)
				s.proxy.Set(proxy.Rules{Fail: func(*http.Request) int { return http.StatusServiceUnavailable }})
				s.proxy.Cut()
				s.left(outage)
				s.proxy.Set(life)
				s.left(bound)
				for range 5 {
					s.left(time.Second)
				}
				return s
			},
			"empty_relist": func(t *testing.T) *scene {
				s := newScene(t, shared, life)
				for s.left(8 * time.Second) {
					s.proxy.Set(proxy.Rules{Lifetime: shortLife, NoPods: true})
					s.proxy.Cut()
					s.left(20 * time.Second)
					s.proxy.Set(life)
					s.proxy.Cut()
				}
				return s
			},
			"killed": func(t *testing.T) *scene {
				s := newScene(t, shared, life)
				for s.left(time.Duration(rand.IntN(4000)) * time.Millisecond) {
					s.daemon.Kill()
					s.start()
				}
				return s
			},
			"disk_full": func(t *testing.T) *scene { return fillDisk(t, shared, life) },
			"objects_deleted": func(t *testing.T) *scene {
				s := newScene(t, shared, life)
				for s.left(5 * time.Second) { // the controller makes it again
					err := s.client.CoreV1().ConfigMaps(s.ns).Delete(s.ctx, "kube-root-ca.crt", metav1.DeleteOptions{})
					if err != nil && !apierrors.IsNotFound(err) {
						s.Fatal(err)
					}
				}
				return s
			},
			"recreated": func(t *testing.T) *scene {
				s := newScene(t, shared, life)
				for s.left(3 * time.Second) {
					s.recreate()
				}
				return s
			},
			"slow_answers": func(t *testing.T) *scene {
				s := newScene(t, shared, life)
				s.proxy.Set(proxy.Rules{Lifetime: shortLife, TokenDelay: 3 * time.Second})
				for s.left(time.Second) {
					s.recreate()
				}
				return s
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t).judge(name)
			})
		}
	})
}

// recreate deletes a Pod, and makes another with its name.
func (s *scene) recreate() {
	s.Helper()
	pods, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	if len(pods.Items) == 0 {
		s.Fatal("the Pods are gone")
	}
	pod := &pods.Items[rand.IntN(len(pods.Items))]
	s.remove(pod)
	s.watch(s.pod(pod.Name))
}

// fillDisk has plain directories on a small disk, and fills it again and again.
func fillDisk(t *testing.T, cluster *devcluster.Cluster, rules proxy.Rules) *scene {
	t.Helper()
	s := newSceneOn(t, cluster, rules, func(root string) {
		if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
	}, "--volume-medium=directory")
	filler := filepath.Join(s.root(), "filler")
	for s.left(6 * time.Second) {
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0600); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("filling the disk: %v, want ENOSPC", err)
		}
		s.left(6 * time.Second)
		s.must(os.Remove(filler))
	}
	s.left(5 * time.Second)
	return s
}

// TestRefereeSees: with a daemon that does not rotate, or none, the referee finds
// what it is there to find. Else its silence would prove nothing.
func TestRefereeSees(t *testing.T) {
	shared := startCluster(t)
	const life = 20 * time.Second
	t.Run("controls", func(t *testing.T) {
		for name, breakIt := range map[string]func(s *scene){
			"rotation_off": func(s *scene) {
				s.proxy.Set(proxy.Rules{Lifetime: life, Fail: func(r *http.Request) int {
					if proxy.IsTokenRequest(r) {
						return http.StatusInternalServerError
					}
					return 0
				}})
			},
			// The next process takes over nothing, because it looks elsewhere.
			"adoption_off": func(s *scene) {
				s.daemon.Kill()
				s.flags = append(s.flags, "--root-dir="+s.TempDir(), "--volume-medium=directory")
				s.start()
				s.waitReady()
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, shared, proxy.Rules{Lifetime: life})
				breakIt(s)
				s.eventually("a token to lapse", func() bool { return s.referee.Report().Lapsed > 0 })
				fmt.Printf("RESULT referee_control scenario=%s lapsed=%d\n", name, s.referee.Report().Lapsed)
			})
		}
	})
}

func startCluster(t *testing.T) *devcluster.Cluster {
	t.Helper()
	cluster, err := devcluster.Start(t.Context(), devcluster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}
