package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/atomicdir"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// node is a fake projector and cluster: real ones are in test/integration.
type node struct {
	mu      sync.Mutex
	changed func(projector.Key)
	pods    map[types.UID]*corev1.Pod
	volumes map[projector.Key]projector.VolumeStatus
	content map[projector.Key]string
	err     error         // of Await
	hangs   chan struct{} // Await and Unpublish wait for it, unless it is nil
	removed int
	pace    time.Duration // of the last Rotate
}

func (n *node) FindPod(_ context.Context, ref projector.PodRef) (*corev1.Pod, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	pod, ok := n.pods[ref.UID]
	switch {
	case !ok:
		return nil, projector.ErrNoPod
	case pod.Name != ref.Name || pod.Namespace != ref.Namespace:
		return nil, projector.ErrOtherPod
	}
	return pod, nil
}

func (n *node) Publish(key projector.Key) error {
	n.set(projector.VolumeStatus{Key: key, Published: true, Phase: projector.PhasePending})
	return nil
}

// set is a volume as it is now.
func (n *node) set(v projector.VolumeStatus) {
	n.mu.Lock()
	n.volumes[v.Key] = v
	n.mu.Unlock()
	n.changed(v.Key)
}

func (n *node) wait(ctx context.Context) error {
	n.mu.Lock()
	hangs := n.hangs
	n.mu.Unlock()
	if hangs == nil {
		return nil
	}
	select {
	case <-hangs:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *node) Await(ctx context.Context, key projector.Key) error {
	if err := n.wait(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	err := n.err
	n.mu.Unlock()
	if err != nil {
		return err
	}
	n.set(ready(key, "..1"))
	return nil
}

// ready is a volume with a token.
func ready(key projector.Key, generation string) projector.VolumeStatus {
	return projector.VolumeStatus{
		Key: key, Namespace: "ns", Pod: "web", Path: "/root/" + key.Volume, Phase: projector.PhaseReady, Generation: generation, Published: true,
		Files:  []projector.FileStatus{{Path: "ca.crt", Mode: 0644}, {Path: "token", Mode: 0600, Token: true}},
		Tokens: []projector.TokenStatus{{Path: "token", Audience: "vault", IssuedAt: time.Unix(1, 0), ExpiresAt: time.Unix(2, 0), RotateAt: time.Unix(3, 0)}},
	}
}

func (n *node) Unpublish(ctx context.Context, key projector.Key) error {
	if err := n.wait(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.volumes, key)
	n.removed++
	n.mu.Unlock()
	n.changed(key)
	return nil
}

func (n *node) Volume(key projector.Key) (projector.VolumeStatus, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.volumes[key]
	return v, ok
}

func (n *node) Volumes() (all []projector.VolumeStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.volumes {
		all = append(all, v)
	}
	return all
}

func (n *node) Rotate(_ projector.Key, pace time.Duration) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pace = pace
	return 1, nil
}

func (n *node) Content(key projector.Key) (atomicdir.Set, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.volumes[key]
	if !ok || v.Generation == "" {
		return atomicdir.Set{}, projector.ErrNoVolume
	}
	return atomicdir.Set{Generation: v.Generation, Files: []atomicdir.File{{Path: "token", Mode: 0600, Data: []byte(n.content[key]), Owner: &atomicdir.Owner{UID: 7, GID: -1}}}}, nil
}

// rig is a server that runs, as a runtime sees it.
type rig struct {
	*testing.T
	node   *node
	server *Server
	socket string
	client api.VolumeServiceClient
	end    func() // ends the server, and waits for that
}

func newRig(t *testing.T, configure func(*Config)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") //nolint:usetesting // TempDir would make the path of a socket too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{T: t, socket: filepath.Join(dir, "admin/s.sock"), node: &node{
		pods: map[types.UID]*corev1.Pod{}, volumes: map[projector.Key]projector.VolumeStatus{}, content: map[projector.Key]string{},
	}}
	cfg := Config{
		Socket: r.socket, Version: "v1", NodeName: "n", Root: "/root", GoneGrace: time.Minute,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	configure(&cfg)
	if r.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	r.node.changed = r.server.Changed
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Run(ctx) }()
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.end)
	r.client = api.NewVolumeServiceClient(r.dial())
	r.info()
	return r
}

func plain(*Config) {}

// serving is newRig where there is something to serve.
func serving(t *testing.T, configure func(*Config)) *rig {
	t.Helper()
	r := newRig(t, configure)
	r.serve()
	return r
}

func (r *rig) serve() {
	r.server.Serve(Node{Volumes: r.node, Cluster: r.node, RotateAll: func(time.Duration) int { return 9 }, Identity: "node", User: "system:node:n"})
}

func (r *rig) dial() *grpc.ClientConn {
	r.Helper()
	conn, err := grpc.NewClient("unix:"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (r *rig) info() *api.GetInfoResponse {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	info, err := r.client.GetInfo(ctx, &api.GetInfoRequest{})
	if err != nil {
		r.Fatal(err)
	}
	return info
}

// addPod makes a Pod with these volumes known.
func (r *rig) addPod(uid string, volumes ...string) *api.PodRef {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: types.UID(uid)}}
	for _, name := range volumes {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
		}}})
	}
	container := corev1.Container{Name: "c"}
	for _, name := range volumes {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
	}
	pod.Spec.Containers = []corev1.Container{container}
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	r.node.pods[pod.UID] = pod
	return &api.PodRef{Namespace: "ns", Name: "web", Uid: uid}
}

func (r *rig) wants(what string, err error, code codes.Code) {
	r.Helper()
	if status.Code(err) != code {
		r.Errorf("%s: %v, want %s", what, err, code)
	}
}

// eventually waits for something that another goroutine does.
func (r *rig) eventually(what string, done func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("waited too long for %s", what)
		}
	}
}

var errSource = fmt.Errorf("sources[0]: %w", errors.New("no key"))
