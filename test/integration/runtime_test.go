package integration

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// runtime is a runtime that calls projectord.
type runtime struct {
	*world
	socket string
	api.VolumeServiceClient
}

// runtime makes one, before projectord runs or after.
func (w *world) runtime() *runtime {
	w.Helper()
	dir, err := os.MkdirTemp("", "projectord-api") // TempDir would make the path of a socket too long
	w.must(err)
	w.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin/s.sock")
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	w.must(err)
	w.Cleanup(func() { _ = conn.Close() })
	return &runtime{world: w, socket: socket, VolumeServiceClient: api.NewVolumeServiceClient(conn)}
}

// flags have projectord serve it, and nobody else.
func (r *runtime) flags() []string { return []string{"--socket=" + r.socket, "--pod-source=none"} }

func refOf(pod *corev1.Pod) *api.PodRef {
	return &api.PodRef{Namespace: pod.Namespace, Name: pod.Name, Uid: string(pod.UID)}
}

// publish publishes the one volume of a Pod, and waits until it is ready.
func (r *runtime) publish(pod *corev1.Pod) *api.Volume {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	got, err := r.PublishVolume(ctx, &api.PublishVolumeRequest{Pod: refOf(pod), WaitReady: true})
	r.must(err)
	if len(got.Volumes) != 1 || got.Volumes[0].Phase != api.Phase_PHASE_READY {
		r.Fatalf("volumes %v", got.Volumes)
	}
	return got.Volumes[0]
}

func (r *runtime) get(v *api.Volume) (*api.Volume, error) {
	got, err := r.GetVolume(r.ctx, &api.GetVolumeRequest{Id: v.Id})
	return got.GetVolume(), err
}

// TestRuntime does what a runtime does, across restarts and without an API server.
func TestRuntime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	r := w.runtime()
	d := w.startReady(r.flags()...)
	pod := w.create(w.newPod("pod"))
	f := w.tokenFiles(pod)[0]
	if w.exists(f.Path) {
		t.Error("it was written without being asked for")
	}
	v := r.publish(pod)
	if filepath.Join(v.HostPath, "token") != f.Path || len(v.Tokens) != 1 || v.Tokens[0].Path != "token" {
		t.Errorf("volume %v", v)
	}
	w.must(w.review(f, w.waitFile(f.Path)))
	if again := r.publish(pod); again.Generation != v.Generation {
		t.Error("the second call wrote it anew")
	}

	// Rotated by a call: watchers are told, with another generation.
	stream, err := r.WatchVolumes(w.ctx, &api.WatchVolumesRequest{PodUid: string(pod.UID)})
	w.must(err)
	_, err = r.RotateVolume(w.ctx, &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_Id{Id: v.Id}})
	w.must(err)
	for changed := false; !changed; {
		event, err := stream.Recv()
		w.must(err)
		changed = event.Type == api.EventType_EVENT_TYPE_MODIFIED && event.Volume.Generation > v.Generation
	}

	// A new process takes it over without a request, and it can be published again.
	token := w.waitFile(f.Path)
	d.Stop()
	d = w.startReady(r.flags()...)
	if again := r.publish(pod); again.HostPath != v.HostPath || w.waitFile(f.Path) != token {
		t.Error("the next process wrote it anew")
	}

	// The Pod goes: the workload may run on, and the volume stays until it is given back.
	w.deletePod(pod)
	r.eventually("the volume to be terminating", func() bool {
		now, err := r.get(v)
		w.must(err)
		return now.Phase == api.Phase_PHASE_TERMINATING
	})
	if w.waitFile(f.Path) != token {
		t.Error("it was written anew for a Pod that is gone")
	}
	for range 2 {
		_, err := r.UnpublishVolume(w.ctx, &api.UnpublishVolumeRequest{Id: v.Id})
		w.must(err)
	}
	if w.exists(v.HostPath) {
		t.Errorf("%s is left", v.HostPath)
	}
	if _, err := r.get(v); status.Code(err) != codes.NotFound {
		t.Errorf("what is gone: %v", err)
	}
	d.Stop()
	if w.exists(filepath.Dir(r.socket)) {
		t.Error("the socket's directory is left")
	}
}

// TestRuntimeMeansAnotherPod: the daemon takes nobody's word for what a Pod is.
func TestRuntimeMeansAnotherPod(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	r := w.runtime()
	w.startReady(r.flags()...)
	here, other := w.create(w.newPod("here")), w.newPod("there")
	w.createNode(w.node + "-other")
	other.Spec.NodeName = w.node + "-other"
	other = w.create(other)
	changed := func(change func(*api.PodRef)) *api.PodRef {
		ref := refOf(here)
		change(ref)
		return ref
	}
	for _, tt := range []struct {
		name string
		ref  *api.PodRef
		code codes.Code
	}{
		{"of another node", refOf(other), codes.NotFound},
		{"another UID", changed(func(p *api.PodRef) { p.Uid = "00000000-0000-0000-0000-000000000000" }), codes.FailedPrecondition},
		{"another name", changed(func(p *api.PodRef) { p.Name = "nobody" }), codes.FailedPrecondition},
		{"another namespace", changed(func(p *api.PodRef) { p.Namespace = "kube-system" }), codes.FailedPrecondition},
		{"nothing of it", &api.PodRef{Namespace: "no", Name: "no", Uid: "no"}, codes.NotFound},
	} {
		ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
		_, err := r.PublishVolume(ctx, &api.PublishVolumeRequest{Pod: tt.ref, WaitReady: true})
		cancel()
		if status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.code)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(w.root(), "pods")); len(entries) > 0 {
		t.Errorf("it has written %v, %v", entries, err)
	}
}
