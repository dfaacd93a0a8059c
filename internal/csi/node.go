package csi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/internal/grpcerr"
	"github.com/token-projector/token-projector/internal/mount"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/payload"
)

// What a kubelet adds to a volume's attributes with podInfoOnMount and for inline
// volumes (pkg/volume/csi/csi_mounter.go).
const (
	attributeEphemeral = "csi.storage.k8s.io/ephemeral"
	attributePodUID    = "csi.storage.k8s.io/pod.uid"
)

// giveBackTime bounds the removal of a volume whose first publication failed, after
// the request itself may have ended.
const giveBackTime = 20 * time.Second

// NodePublishVolume mounts a volume and fills it. It is idempotent. An error that is
// final for a kubelet leaves nothing; with any other one the work goes on, and its
// next request may find it done.
func (d *Driver) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	key, err := d.checkPublish(r)
	if err != nil {
		return nil, err
	}
	unlock, err := d.begin(key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	volumes := d.adopted()
	if volumes == nil {
		return nil, status.Error(codes.Unavailable, "projectord is not connected to the API server yet: see its /readyz")
	}
	// The kubelet has the same path for a PersistentVolume whose name is the inline
	// volume's.
	if _, foreign, err := mount.At(r.TargetPath); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	} else if foreign {
		return nil, status.Errorf(codes.FailedPrecondition, "something else is mounted at target_path %q: "+
			"give the volume another name in the Pod's spec", r.TargetPath)
	}
	volumes.Claim(key, r.TargetPath)
	err = volumes.Await(ctx, key)
	switch {
	case err == nil:
		return &csi.NodePublishVolumeResponse{}, nil
	case ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	// For a kubelet a temporary error is no end: it asks again, and gives the volume back
	// in any case. After any other it believes that there is nothing
	// (pkg/volume/csi/csi_client.go, isFinalError).
	code := grpcerr.Code(err)
	if grpcerr.Temporary(code) {
		return nil, status.Error(code, brief(err.Error()))
	}
	giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	if undone := volumes.Unclaim(giving, key, r.TargetPath); undone != nil {
		err = errors.Join(err, fmt.Errorf("removing what was made of the volume: %w", undone))
	}
	return nil, status.Error(code, brief(err.Error()))
}

// maxText is how much an error says, in bytes. It may quote what a Pod's author wrote,
// and ends up in the kubelet's log each time that it tries.
const maxText = 1024

func brief(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + " ..."
}

// checkPublish checks a request, and says whose volume it is. An error goes into the
// Pod's Events and the kubelet's log: it quotes nothing but what the Pod's spec has.
func (d *Driver) checkPublish(r *csi.NodePublishVolumeRequest) (projector.Key, error) {
	invalid := func(text string, args ...any) (projector.Key, error) {
		return projector.Key{}, status.Error(codes.InvalidArgument, brief(fmt.Sprintf(text, args...)))
	}
	mount := r.GetVolumeCapability().GetMount()
	switch {
	case r.GetVolumeId() == "":
		return invalid("volume_id is required")
	case r.GetTargetPath() == "":
		return invalid("target_path is required")
	case r.GetVolumeCapability() == nil:
		return invalid("volume_capability is required")
	case mount == nil:
		return invalid("volume_capability: want a mount, not a block device")
	case r.GetVolumeContext()[attributeEphemeral] != "true":
		return invalid("only inline volumes of a Pod are served, not PersistentVolumes: use spec.volumes[].csi")
	case !r.GetReadonly():
		return invalid("set readOnly: true in the Pod's spec.volumes[].csi: what a container wrote there would be lost at the next rotation")
	}
	key, err := parseTarget(d.cfg.KubeletDir, r.GetTargetPath())
	if err != nil {
		return invalid("%v", err)
	}
	if uid := r.GetVolumeContext()[attributePodUID]; uid != string(key.PodUID) {
		return invalid("%s %q is not the Pod of target_path %q; does the CSIDriver object have podInfoOnMount?", attributePodUID, uid, r.GetTargetPath())
	}
	source, err := payload.FromAttributes(r.GetVolumeContext())
	if err != nil {
		return invalid("%v", err)
	}
	if name := otherObject(source); name != "" && !d.cfg.AnyObject {
		return invalid("volumeAttributes: %s%s: this driver projects no ConfigMap but %s, and no Secret: use a projected volume, "+
			"or ask the administrator for the component csi-objects", payload.AttributeSources, name, payload.RootCAConfigMap)
	}
	return key, nil
}

// otherObject names the first source that a node may not read for an inline volume.
func otherObject(v *corev1.ProjectedVolumeSource) string {
	for i := range v.Sources {
		switch s := &v.Sources[i]; {
		case s.ConfigMap != nil && s.ConfigMap.Name != payload.RootCAConfigMap:
			return fmt.Sprintf("[%d]: ConfigMap %q", i, s.ConfigMap.Name)
		case s.Secret != nil:
			return fmt.Sprintf("[%d]: Secret %q", i, s.Secret.Name)
		}
	}
	return ""
}

// NodeUnpublishVolume unmounts a volume and removes its directory. It is
// idempotent.
func (d *Driver) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	switch {
	case r.GetVolumeId() == "":
		return nil, status.Error(codes.InvalidArgument, "volume_id is required")
	case r.GetTargetPath() == "":
		return nil, status.Error(codes.InvalidArgument, "target_path is required")
	}
	key, err := parseTarget(d.cfg.KubeletDir, r.GetTargetPath())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	unlock, err := d.begin(key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := d.remove(ctx, key, r.GetTargetPath()); ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	} else if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// remove takes a volume away, if what is there is ours, also while the API server can't be reached and so
// nothing is adopted yet: a Pod must not wait for that to end.
func (d *Driver) remove(ctx context.Context, key projector.Key, path string) error {
	switch ours, foreign, err := mount.At(path); {
	case err != nil:
		return err
	case foreign && ours:
		return fmt.Errorf("something else is mounted on top of the volume at %s: unmount that first", path)
	case foreign:
		d.cfg.Logger.Warn("something else is mounted where a volume is to be removed; it is left alone", "path", path)
		return nil
	}
	d.adopting.RLock()
	defer d.adopting.RUnlock()
	if volumes := d.adopted(); volumes != nil {
		return volumes.Unclaim(ctx, key, path)
	}
	return projector.Release(path)
}

// NodeGetInfo implements csi.NodeServer.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.cfg.NodeName}, nil
}

// NodeGetCapabilities implements csi.NodeServer.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	// The kubelet leaves the Pod's fsGroup to us.
	capability := &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{
		Rpc: &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP},
	}}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{capability}}, nil
}
