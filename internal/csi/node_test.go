package csi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/internal/mount"
	"github.com/token-projector/token-projector/projector"
)

// unpublish is a request as a kubelet makes it.
func (r *rig) unpublish() *csi.NodeUnpublishVolumeRequest {
	return &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: r.target()}
}

// TestUnpublishIsRefused mutates one field of a request that is right.
func TestUnpublishIsRefused(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		mutate func(*csi.NodeUnpublishVolumeRequest)
		says   string
	}{
		{"no id", func(q *csi.NodeUnpublishVolumeRequest) { q.VolumeId = "" }, "volume_id is required"},
		{"no target", func(q *csi.NodeUnpublishVolumeRequest) { q.TargetPath = "" }, "target_path is required"},
		{"elsewhere", func(q *csi.NodeUnpublishVolumeRequest) { q.TargetPath = "/etc" }, "not below the kubelet's directory"},
		{"above", func(q *csi.NodeUnpublishVolumeRequest) { q.TargetPath = filepath.Dir(q.TargetPath) }, "no CSI volume's"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := r.unpublish()
			tt.mutate(request)
			_, err := call(t, r.node.NodeUnpublishVolume, request)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want InvalidArgument and %q", err, tt.says)
			}
			r.volumes.expect(t, 0, 0)
		})
	}
}

// TestUnpublishThatFails is tried again by the kubelet, whatever the code.
func TestUnpublishThatFails(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	r.volumes.stuck = errors.New("the mount is busy")
	if _, err := call(t, r.node.NodeUnpublishVolume, r.unpublish()); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "the mount is busy") {
		t.Errorf("error %v", err)
	}
	r.volumes.behave(nil, true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.node.NodeUnpublishVolume(ctx, r.unpublish()); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
}

// TestPublishThatCantBeUndone tells both.
func TestPublishThatCantBeUndone(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	r.volumes.stuck = errors.New("the mount is busy")
	r.volumes.behave(errors.New("something else"), false)
	_, err := call(t, r.node.NodePublishVolume, r.publish())
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "something else") || !strings.Contains(err.Error(), "the mount is busy") {
		t.Errorf("error %v", err)
	}
}

// TestForeignMount: what others have mounted at a target is neither written to nor
// emptied.
func TestForeignMount(t *testing.T) {
	r := newRig(t)
	if err := new(mount.Tmpfs).Available(r.kubelet); err != nil {
		t.Skipf("nothing can be mounted: %v", err)
	}
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	theirs := t.TempDir()
	file := filepath.Join(theirs, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0600), os.MkdirAll(r.target(), 0700), unix.Mount(theirs, r.target(), "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mount.Unmount(r.target()) })
	if _, err := call(t, r.node.NodePublishVolume, r.publish()); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "something else is mounted") {
		t.Errorf("published: %v", err)
	}
	if _, err := call(t, r.node.NodeUnpublishVolume, r.unpublish()); err != nil {
		t.Errorf("unpublished: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	r.volumes.expect(t, 0, 0)
}

// TestAdoptFromMounts: what an earlier process has mounted in the kubelet's layout is
// claimed, and nothing else.
func TestAdoptFromMounts(t *testing.T) {
	r := newRig(t)
	if err := new(mount.Tmpfs).Available(r.kubelet); err != nil {
		t.Skipf("a tmpfs can't be mounted: %v", err)
	}
	for _, path := range []string{r.target(), filepath.Join(r.kubelet, "elsewhere")} {
		if err := os.MkdirAll(path, 0700); err != nil {
			t.Fatal(err)
		}
		if err := new(mount.Tmpfs).Ensure(path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = mount.Unmount(path) })
	}
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	r.volumes.expect(t, 1, 0)
	if got := r.volumes.claimed[projector.Key{PodUID: "0a-b", Volume: "vol"}]; got != r.target() {
		t.Errorf("claimed at %q", got)
	}
}

// TestNewRefuses mutates one field of a configuration that is right.
func TestNewRefuses(t *testing.T) {
	for name, mutate := range map[string]func(*Config){
		"no name":            func(c *Config) { c.Name = "" },
		"no version":         func(c *Config) { c.Version = "" },
		"no node":            func(c *Config) { c.NodeName = "" },
		"no logger":          func(c *Config) { c.Logger = nil },
		"a relative socket":  func(c *Config) { c.Socket = "csi.sock" },
		"a relative kubelet": func(c *Config) { c.KubeletDir = "kubelet" },
	} {
		cfg := Config{Name: "d.example", Version: "v1", NodeName: "n", Socket: "/csi.sock", KubeletDir: "/kubelet", Logger: newLogs().logger()}
		if _, err := New(cfg); err != nil {
			t.Fatal(err)
		}
		mutate(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzParseTarget: of whatever path, there is an error, or the one path of that
// volume.
func FuzzParseTarget(f *testing.F) {
	f.Add("/k/pods/0a-b/volumes/kubernetes.io~csi/vol/mount")
	f.Add("/k/pods/../volumes/kubernetes.io~csi/.../mount")
	f.Add("/k/pods/a/volumes/kubernetes.io~csi/b\x00/mount\n")
	f.Fuzz(func(t *testing.T, path string) {
		key, err := parseTarget("/k", path)
		if want := filepath.Join("/k", podsDir, string(key.PodUID), volumesDir, pluginDir, key.Volume, mountDir); err == nil && path != want {
			t.Errorf("%q is taken for %q", path, want)
		}
		if err == nil && strings.ContainsAny(string(key.PodUID)+key.Volume, "/.\x00\n\\") {
			t.Errorf("%q has the names %q", path, key)
		}
	})
}
