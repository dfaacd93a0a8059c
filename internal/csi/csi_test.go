package csi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/token-projector/token-projector/internal/grpcerr"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/payload"
)

// volumes is a fake projector: a real one needs an API server, and test/e2e has
// both.
type volumes struct {
	mu      sync.Mutex
	err     error // of Await
	stuck   error // of Unclaim
	hangs   bool  // Await does, until its context ends
	claimed map[projector.Key]string
	given   []string           // back
	waiting chan projector.Key // that Await hangs for
}

func newVolumes() *volumes {
	return &volumes{claimed: map[projector.Key]string{}, waiting: make(chan projector.Key, 2*maxStreams)}
}

func (v *volumes) Claim(key projector.Key, path string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.claimed[key] = path
}

func (v *volumes) Await(ctx context.Context, key projector.Key) error {
	v.mu.Lock()
	hangs, err := v.hangs, v.err
	v.mu.Unlock()
	if hangs {
		v.waiting <- key
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (v *volumes) Unclaim(ctx context.Context, key projector.Key, path string) error {
	v.mu.Lock()
	hangs, stuck := v.hangs, v.stuck
	delete(v.claimed, key)
	v.given = append(v.given, path)
	v.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return stuck
}

// behave changes what Await does.
func (v *volumes) behave(err error, hangs bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err, v.hangs = err, hangs
}

// expect compares what was asked for so far.
func (v *volumes) expect(t *testing.T, claimed, given int) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.claimed) != claimed || len(v.given) != given {
		t.Errorf("claimed %v, given back %q, want %d and %d", v.claimed, v.given, claimed, given)
	}
}

// rig is a driver that runs, as a kubelet sees it.
type rig struct {
	volumes  *volumes
	driver   *Driver
	node     csi.NodeClient
	identity csi.IdentityClient
	kubelet  string
	log      *logs
	end      func() // ends the driver, and waits for that
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigAt(t, t.TempDir(), "n")
}

// newRigAt is newRig with a kubelet's directory, where another driver may run.
func newRigAt(t *testing.T, dir, node string) *rig {
	t.Helper()
	r := &rig{volumes: newVolumes(), kubelet: dir, log: newLogs()}
	socket := filepath.Join(dir, "plugins/d/csi.sock")
	var err error
	r.driver, err = New(Config{
		Name: "d.example", Version: "v1", NodeName: node, Socket: socket, KubeletDir: dir, Logger: r.log.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.driver.Run(ctx) }()
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.end)
	conn := dial(t, socket)
	r.node, r.identity = csi.NewNodeClient(conn), csi.NewIdentityClient(conn)
	return r
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond, Multiplier: 2}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (r *rig) target() string {
	return filepath.Join(r.kubelet, "pods/0a-b/volumes/kubernetes.io~csi/vol/mount")
}

// publish is a request as a kubelet makes it.
func (r *rig) publish() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: "csi-1", TargetPath: r.target(), Readonly: true,
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
		VolumeContext: map[string]string{attributeEphemeral: "true", attributePodUID: "0a-b"},
	}
}

// call makes a request; the driver may not listen yet.
func call[Q, A any](t *testing.T, f func(context.Context, Q, ...grpc.CallOption) (A, error), request Q) (A, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return f(ctx, request)
}

func TestPublish(t *testing.T) {
	r := newRig(t)
	if _, err := call(t, r.node.NodePublishVolume, r.publish()); status.Code(err) != codes.Unavailable {
		t.Errorf("before there are volumes: %v", err)
	}
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, r.node.NodePublishVolume, r.publish()); err != nil {
		t.Fatal(err)
	}
	r.volumes.expect(t, 1, 0)
	r.volumes.mu.Lock()
	if got := r.volumes.claimed[projector.Key{PodUID: "0a-b", Volume: "vol"}]; got != r.target() {
		t.Errorf("claimed at %q", got)
	}
	r.volumes.mu.Unlock()
	for range 2 {
		if _, err := call(t, r.node.NodeUnpublishVolume, &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: r.target()}); err != nil {
			t.Error(err)
		}
	}
	r.volumes.expect(t, 0, 2)
}

// TestPublishIsRefused mutates one field of a request that is right.
func TestPublishIsRefused(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	at := func(path string) func(*csi.NodePublishVolumeRequest) {
		return func(q *csi.NodePublishVolumeRequest) { q.TargetPath = path }
	}
	below := func(path string) func(*csi.NodePublishVolumeRequest) {
		return at(filepath.Join(r.kubelet, "pods") + path)
	}
	attribute := func(name, value string) func(*csi.NodePublishVolumeRequest) {
		return func(q *csi.NodePublishVolumeRequest) { q.VolumeContext[name] = value }
	}
	tests := []struct {
		name   string
		mutate func(*csi.NodePublishVolumeRequest)
		says   string
	}{
		{"no id", func(q *csi.NodePublishVolumeRequest) { q.VolumeId = "" }, "volume_id is required"},
		{"no target", at(""), "target_path is required"},
		{"no capability", func(q *csi.NodePublishVolumeRequest) { q.VolumeCapability = nil }, "volume_capability is required"},
		{"a block device", func(q *csi.NodePublishVolumeRequest) {
			q.VolumeCapability.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		}, "not a block device"},
		{"writable", func(q *csi.NodePublishVolumeRequest) { q.Readonly = false }, "set readOnly: true"},
		{"a PersistentVolume", attribute(attributeEphemeral, "false"), "only inline volumes"},
		{"another Pod's target", attribute(attributePodUID, "other"), "is not the Pod of target_path"},
		{"unknown attribute", attribute("audience", "x"), `unknown attribute "audience"`},
		{"bad sources", attribute("sources", "- serviceAccountToken: {path: ../x}"), "sources[0]: serviceAccountToken.path"},
		{"a ConfigMap", attribute("sources", "[{serviceAccountToken: {path: t}}, {configMap: {name: app}}]"), `sources[1]: ConfigMap "app"`},
		{"a Secret", attribute("sources", "[{serviceAccountToken: {path: t}}, {secret: {name: key}}]"), `sources[1]: Secret "key"`},
		{"elsewhere", at("/etc"), "not below the kubelet's directory"},
		{"upwards", below("/0a-b/volumes/kubernetes.io~csi/../../../../etc/mount"), "not clean"},
		{"twice a slash", below("/0a-b//volumes/kubernetes.io~csi/vol/mount"), "not clean"},
		{"another plugin's", below("/0a-b/volumes/kubernetes.io~projected/vol/mount"), "no CSI volume's"},
		{"too deep", below("/0a-b/volumes/kubernetes.io~csi/vol/x/mount"), "no CSI volume's"},
		{"dots for a name", below("/0a-b/volumes/kubernetes.io~csi/.../mount"), "a name that is none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := r.publish()
			tt.mutate(request)
			_, err := call(t, r.node.NodePublishVolume, request)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want InvalidArgument and %q", err, tt.says)
			}
			r.volumes.expect(t, 0, 0)
		})
	}
}

// TestPublishThatFails: for good it leaves nothing; if it takes too long it goes on.
func TestPublishThatFails(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	r.volumes.behave(errors.New("the ConfigMap does not exist"), false)
	if _, err := call(t, r.node.NodePublishVolume, r.publish()); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "the ConfigMap") {
		t.Errorf("error %v", err)
	}
	r.volumes.expect(t, 0, 1)

	r.volumes.behave(nil, true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := r.node.NodePublishVolume(ctx, r.publish()); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
	r.volumes.expect(t, 1, 1)
}

// TestErrorClasses: what a kubelet takes for the end leaves nothing, and anything else
// goes on.
func TestErrorClasses(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	accounts := schema.GroupResource{Resource: "serviceaccounts"}
	unbuilt := func(err error) error {
		return errors.Join(errors.Join(&payload.SourceError{Kind: "serviceAccountToken", Err: fmt.Errorf("requesting a token: %w", err)}),
			errors.New("the first publication needs every source"))
	}
	tests := []struct {
		name string
		err  error
		code codes.Code
	}{
		{"no such Pod", projector.ErrNoPod, codes.NotFound},
		{"the Pod ends", projector.ErrTerminating, codes.FailedPrecondition},
		{"the Pod declares something else", fmt.Errorf("%w: none", projector.ErrDeclaration), codes.FailedPrecondition},
		{"no ServiceAccount", unbuilt(apierrors.NewNotFound(accounts, "a")), codes.FailedPrecondition},
		{"a missing key", unbuilt(errors.New("no key")), codes.FailedPrecondition},
		{"not allowed", unbuilt(apierrors.NewForbidden(accounts, "a", nil)), codes.PermissionDenied},
		{"all volumes are too large", fmt.Errorf("%w: 1 byte", projector.ErrFull), codes.ResourceExhausted},
		{"too many requests", unbuilt(apierrors.NewTooManyRequests("later", 1)), codes.ResourceExhausted},
		{"our credential is refused", unbuilt(apierrors.NewUnauthorized("no")), codes.Unavailable},
		{"the API server fails", unbuilt(apierrors.NewInternalError(errors.New("etcd"))), codes.Unavailable},
		{"the API server is away", unbuilt(&url.Error{Op: "Post", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}), codes.Unavailable},
		{"no answer", unbuilt(context.DeadlineExceeded), codes.Unavailable},
		{"away, and not allowed", errors.Join(unbuilt(context.DeadlineExceeded), unbuilt(apierrors.NewForbidden(accounts, "a", nil))), codes.PermissionDenied},
		{"a disk that fails", fmt.Errorf("publishing: %w", syscall.EIO), codes.Internal},
	}
	final := 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.volumes.behave(tt.err, false)
			if _, err := call(t, r.node.NodePublishVolume, r.publish()); status.Code(err) != tt.code {
				t.Errorf("error %v, want %s", err, tt.code)
			}
			left := 1
			if !grpcerr.Temporary(tt.code) {
				left, final = 0, final+1
			}
			r.volumes.expect(t, left, final)
		})
	}
}

// TestUnpublishBeforeAdoption: while the API server is away nothing is adopted, and a
// Pod can go all the same.
func TestUnpublishBeforeAdoption(t *testing.T) {
	r := newRig(t)
	if err := os.MkdirAll(filepath.Join(r.target(), "..2026_generation"), 0750); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := call(t, r.node.NodeUnpublishVolume, &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: r.target()}); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(r.target()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is there still: %v", err)
		}
	}
	r.volumes.expect(t, 0, 0)
}

// TestEndsWithARequestUnderWay: an upgrade must not wait for what can't come.
func TestEndsWithARequestUnderWay(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	r.volumes.behave(nil, true)
	answered := make(chan error, 1)
	go func() {
		_, err := r.node.NodePublishVolume(t.Context(), r.publish())
		answered <- err
	}()
	<-r.volumes.waiting
	began := time.Now()
	r.end()
	if took := time.Since(began); took > 10*endTime {
		t.Errorf("it took %s", took)
	}
	if err := <-answered; err == nil {
		t.Error("the request was answered")
	}
}

// TestOneRequestAtATime for each volume.
func TestOneRequestAtATime(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	unlock, err := r.driver.begin(projector.Key{PodUID: "0a-b", Volume: "vol"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, r.node.NodePublishVolume, r.publish()); status.Code(err) != codes.Aborted {
		t.Errorf("a second request: %v", err)
	}
	unlock()
	if _, err := call(t, r.node.NodePublishVolume, r.publish()); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	r := newRig(t)
	info, err := call(t, r.identity.GetPluginInfo, &csi.GetPluginInfoRequest{})
	if err != nil || info.Name != "d.example" || info.VendorVersion != "v1" {
		t.Errorf("%v, %v", info, err)
	}
	for _, want := range []bool{false, true} {
		probe, err := call(t, r.identity.Probe, &csi.ProbeRequest{})
		if err != nil || probe.Ready.GetValue() != want {
			t.Errorf("%v, %v; want ready: %t", probe, err, want)
		}
		if err := r.driver.Adopt(r.volumes); err != nil {
			t.Fatal(err)
		}
	}
	capabilities, err := call(t, r.node.NodeGetCapabilities, &csi.NodeGetCapabilitiesRequest{})
	if err != nil || len(capabilities.Capabilities) != 1 {
		t.Errorf("%v, %v", capabilities, err)
	}
	if node, err := call(t, r.node.NodeGetInfo, &csi.NodeGetInfoRequest{}); err != nil || node.NodeId != "n" {
		t.Errorf("%v, %v", node, err)
	}
}
