//go:build e2e

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	driverName   = "csi.token-projector.io"
	driverSocket = "/var/lib/kubelet/plugins/" + driverName + "/csi.sock"
)

// TestCSICalls makes the requests that a kubelet makes when things go wrong: the same
// again, several at a time, for what is gone or never was.
func TestCSICalls(t *testing.T) {
	r := newRig(t)
	pod := r.csiIdlePod("calls", "calls")
	node := csi.NewNodeClient(r.dialNode(driverSocket))
	target := csiTarget(pod, "calls")
	publish := func(target string) error {
		_, err := node.NodePublishVolume(r.ctx, publishRequest(pod, target))
		return err
	}
	unpublish := func(target string) error {
		_, err := node.NodeUnpublishVolume(r.ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "calls", TargetPath: target})
		return err
	}

	r.must(unpublish(target)) // what never was
	r.mustBeGone(target)
	r.must(os.MkdirAll(filepath.Dir(target), 0750)) // a kubelet does that
	r.atEnd(func() { r.must(os.Remove(filepath.Dir(target))) })

	r.atOnce("publish", func() error { return publish(target) })
	r.must(publish(target))
	if points := r.ourMounts(); !slices.Equal(points, []string{target}) {
		t.Errorf("mounts %q, want one at %s", points, target)
	}
	token := r.waitFile(filepath.Join(target, "token"))
	var before, after syscall.Stat_t
	r.must(syscall.Stat(target, &before))
	r.must(publish(target))
	r.must(syscall.Stat(target, &after))
	if before.Dev != after.Dev || r.waitFile(filepath.Join(target, "token")) != token {
		t.Error("to publish what is published has changed the volume")
	}

	r.atOnce("unpublish", func() error { return unpublish(target) })
	r.must(unpublish(target))
	r.mustBeGone(target)
	r.must(publish(target)) // anew
	r.must(unpublish(target))
	r.mustBeGone(target)

	for _, tt := range []struct {
		name, target string
		code         codes.Code
		says         string
	}{
		{"outside", "/etc/mount", codes.InvalidArgument, "not below the kubelet's directory"},
		{"another Pod", strings.Replace(target, string(pod.UID), "0", 1), codes.InvalidArgument, "is not the Pod of target_path"},
		{"undeclared", csiTarget(pod, "undeclared"), codes.FailedPrecondition, "declares no volume"},
	} {
		if err := publish(tt.target); status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s and %q", tt.name, err, tt.code, tt.says)
		}
		r.mustBeGone(tt.target)
	}
	if err := unpublish("/etc"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("to unpublish /etc: %v", err)
	}

	info, err := registration.NewRegistrationClient(r.dialNode("/var/lib/kubelet/plugins_registry/"+driverName+"-reg.sock")).
		GetInfo(r.ctx, &registration.InfoRequest{})
	if err != nil || info.Name != driverName || info.Type != registration.CSIPlugin || info.Endpoint != driverSocket {
		t.Errorf("registration: %v, %v", info, err)
	}
}

// atOnce makes a request several times at once: each succeeds or is told to come
// again, and one does succeed.
func (r *rig) atOnce(what string, request func() error) {
	r.Helper()
	var group sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		group.Go(func() { errs[i] = request() })
	}
	group.Wait()
	for _, err := range errs {
		if code := status.Code(err); code != codes.OK && code != codes.Aborted {
			r.Errorf("to %s several times at once: %v", what, err)
		}
	}
	if !slices.Contains(errs, nil) {
		r.Errorf("to %s several times at once: none succeeded: %v", what, errs[0])
	}
}

// mustBeGone says that nothing is at a target, nor mounted.
func (r *rig) mustBeGone(target string) {
	r.Helper()
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		r.Errorf("%s is there: %v", target, err)
	}
	if points := r.ourMounts(); len(points) > 0 {
		r.Errorf("mounts are left: %q", points)
	}
}

func (r *rig) dialNode(socket string) *grpc.ClientConn {
	r.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	r.must(err)
	r.atEnd(func() { _ = conn.Close() })
	return conn
}

// publishRequest is a kubelet's for an inline volume of a Pod.
func publishRequest(pod *corev1.Pod, target string) *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: "calls", TargetPath: target, Readonly: true, VolumeContext: podContext(pod),
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	}
}

// podContext is what a kubelet adds to an inline volume's attributes.
func podContext(pod *corev1.Pod) map[string]string {
	return map[string]string{
		"csi.storage.k8s.io/ephemeral":           "true",
		"csi.storage.k8s.io/pod.name":            pod.Name,
		"csi.storage.k8s.io/pod.namespace":       pod.Namespace,
		"csi.storage.k8s.io/pod.uid":             string(pod.UID),
		"csi.storage.k8s.io/serviceAccount.name": pod.Spec.ServiceAccountName,
	}
}

// csiTarget is where a kubelet wants a Pod's volume.
func csiTarget(pod *corev1.Pod, volume string) string {
	return filepath.Join("/var/lib/kubelet/pods", string(pod.UID), "volumes/kubernetes.io~csi", volume, "mount")
}
