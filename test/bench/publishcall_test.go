package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// BenchmarkPublishCall measures PublishVolume with wait_ready for 200 Pods that are
// just created, each beside a bare TokenRequest for it; again, for volumes that are
// published; and how long after a rotation's files are there 100 watchers, each with
// a connection of its own, have been told.
func BenchmarkPublishCall(b *testing.B) {
	for b.Loop() {
		publishCall(b)
	}
}

func publishCall(b *testing.B) {
	const n, watchers, rotations = 200, 100, 20
	r := newControlPlane(b)
	client := r.startForRuntimes()
	r.namespace("bench")
	var first, again, bare []time.Duration
	var volumes []*api.Volume
	for i := range n {
		pod, _ := r.post("bench", fmt.Sprint("pod-", i))
		v, took := r.publish(client, pod)
		volumes, first = append(volumes, v), append(first, took)
		bare = append(bare, r.bareRequest(pod))
		_, took = r.publish(client, pod)
		again = append(again, took)
	}
	told := r.watchRotations(client, volumes[:rotations], watchers)
	new50, bare50 := percentile(first, 50), percentile(bare, 50)
	result(b, "publish_call", fig("n", "%.0f", n),
		fig("new_p50_ms", "%.1f", ms(new50)), fig("new_p99_ms", "%.1f", ms(percentile(first, 99))), fig("bare_p50_ms", "%.1f", ms(bare50)),
		fig("new_p50_ratio", "%.2f", ratio(new50, bare50)).within(5),
		fig("known_p50_ms", "%.2f", ms(percentile(again, 50))).within(1),
		fig("watchers", "%.0f", watchers), fig("events", "%.0f", float64(len(told))),
		fig("watch_p50_ms", "%.1f", ms(percentile(told, 50))), fig("watch_p99_ms", "%.1f", ms(percentile(told, 99))).within(50))
}

// startForRuntimes starts projectord with a socket, and nothing else that asks for
// volumes.
func (r *rig) startForRuntimes(flags ...string) api.VolumeServiceClient {
	r.Helper()
	kubeconfig, err := r.cluster.NodeKubeconfig(nodeName)
	r.must(err)
	r.start(kubeconfig, append([]string{"--socket=" + r.socket(), "--pod-source=none"}, flags...)...)
	return r.runtime()
}

func (r *rig) socket() string { return filepath.Join(r.dir, "admin", "s.sock") }

// runtime is a connection of its own.
func (r *rig) runtime() api.VolumeServiceClient {
	r.Helper()
	conn, err := grpc.NewClient("unix:"+r.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	r.must(err)
	r.Cleanup(func() { _ = conn.Close() })
	return api.NewVolumeServiceClient(conn)
}

func (r *rig) publish(client api.VolumeServiceClient, pod *corev1.Pod) (*api.Volume, time.Duration) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	out, err := client.PublishVolume(ctx, &api.PublishVolumeRequest{
		Pod: &api.PodRef{Namespace: pod.Namespace, Name: pod.Name, Uid: string(pod.UID)}, WaitReady: true,
	})
	took := time.Since(start)
	r.must(err)
	if len(out.Volumes) != 1 || out.Volumes[0].Phase != api.Phase_PHASE_READY {
		r.Fatalf("Pod %s has %v", pod.Name, out.Volumes)
	}
	return out.Volumes[0], took
}

// watchRotations rotates volumes one after another, and returns for each watcher how
// long after each swap of files it was told. The swap is when its link was made, just
// before it is renamed, by the kernel's clock of a few milliseconds; so what is
// returned is rather too long.
func (r *rig) watchRotations(client api.VolumeServiceClient, volumes []*api.Volume, watchers int) []time.Duration {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	type event struct {
		volume *api.Volume
		at     time.Time
	}
	events := make(chan event, watchers*len(volumes))
	for range watchers {
		stream, err := r.runtime().WatchVolumes(ctx, &api.WatchVolumesRequest{})
		r.must(err)
		for {
			e, err := stream.Recv()
			r.must(err)
			if e.Type == api.EventType_EVENT_TYPE_INITIAL_SYNC_COMPLETE {
				break
			}
		}
		running.Go(func() {
			last := map[string]string{} // generations, by Pod
			for {
				e, err := stream.Recv()
				if err != nil {
					return // it is over
				}
				if uid := e.Volume.Id.PodUid; last[uid] != e.Volume.Generation {
					last[uid] = e.Volume.Generation
					events <- event{e.Volume, time.Now()}
				}
			}
		})
	}
	var out []time.Duration
	for _, v := range volumes {
		_, err := client.RotateVolume(ctx, &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_Id{Id: v.Id}})
		r.must(err)
		for range watchers {
			select {
			case e := <-events:
				if e.volume.Id.PodUid != v.Id.PodUid || e.volume.Generation == v.Generation {
					r.Fatalf("an event of %v, want another generation of %v", e.volume, v)
				}
				link, err := os.Lstat(filepath.Join(v.HostPath, "..data"))
				r.must(err)
				out = append(out, e.at.Sub(link.ModTime()))
			case <-time.After(30 * time.Second):
				r.Fatal("a watcher was not told of a rotation")
			}
		}
	}
	return out
}
