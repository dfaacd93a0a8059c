package runtimeapi

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/payload"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// PublishVolume implements api.VolumeServiceServer.
func (s *Server) PublishVolume(ctx context.Context, r *api.PublishVolumeRequest) (*api.PublishVolumeResponse, error) {
	ref, err := refOf(r.GetPod())
	if err != nil {
		return nil, err
	}
	if err := checkOptional("volume_name", r.GetVolumeName()); err != nil {
		return nil, err
	}
	n, err := s.serving()
	if err != nil {
		return nil, err
	}
	pod, err := n.Cluster.FindPod(ctx, ref)
	if err != nil {
		return nil, callStatus(ctx, err)
	}
	keys, err := keysOf(pod, r.GetVolumeName())
	if err != nil {
		return nil, err
	}
	end, err := s.use(keys, false)
	if err != nil {
		return nil, err
	}
	defer end()
	for _, key := range keys {
		if err := n.Volumes.Publish(key); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	if r.GetWaitReady() {
		group, waiting := errgroup.WithContext(ctx)
		for _, key := range keys {
			group.Go(func() error { return n.Volumes.Await(waiting, key) })
		}
		if err := group.Wait(); err != nil {
			return nil, callStatus(ctx, err)
		}
	}
	out := &api.PublishVolumeResponse{}
	for _, key := range keys {
		v, ok := n.Volumes.Volume(key)
		if !ok {
			v = projector.VolumeStatus{Key: key, Phase: projector.PhasePending, Published: true}
		}
		v.Namespace, v.Pod = pod.Namespace, pod.Name // a pass may not have come to it
		out.Volumes = append(out.Volumes, message(v))
	}
	return out, nil
}

// UnpublishVolume implements api.VolumeServiceServer.
func (s *Server) UnpublishVolume(ctx context.Context, r *api.UnpublishVolumeRequest) (*api.UnpublishVolumeResponse, error) {
	n, key, err := s.find(r.GetId())
	if err != nil {
		return nil, err
	}
	end, err := s.use([]projector.Key{key}, true)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := n.Volumes.Unpublish(ctx, key); err != nil {
		return nil, callStatus(ctx, err)
	}
	return &api.UnpublishVolumeResponse{}, nil
}

// callStatus is statusOf, unless it was the caller who gave up.
func callStatus(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return statusOf(err)
}

// use is how a volume is used by calls that are under way: published by any
// number, or removed by one.
type use struct {
	publishing int
	removing   bool
}

// use begins a call for volumes, until end.
func (s *Server) use(keys []projector.Key, remove bool) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if u := s.busy[key]; u != nil && (u.removing || remove) {
			return nil, status.Errorf(codes.Aborted, "another call for volume %q is under way: try again when it has ended", key.Volume)
		}
	}
	for _, key := range keys {
		u := s.busy[key]
		if u == nil {
			u = &use{}
			s.busy[key] = u
		}
		u.publishing, u.removing = u.publishing+1, remove
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range keys {
			if s.busy[key].publishing--; s.busy[key].publishing == 0 {
				delete(s.busy, key)
			}
		}
	}, nil
}

// keysOf are the volumes that are asked for, in the order of their names.
func keysOf(pod *corev1.Pod, name string) ([]projector.Key, error) {
	var keys []projector.Key
	for _, v := range payload.Volumes(pod) {
		if name == "" || v.Name == name {
			keys = append(keys, projector.Key{PodUID: pod.UID, Volume: v.Name})
		}
	}
	switch {
	case len(keys) > 0:
	case name != "":
		return nil, status.Errorf(codes.FailedPrecondition, "the Pod declares no projected volume %q with a token among its sources that a container mounts", name)
	default:
		return nil, status.Error(codes.FailedPrecondition, "the Pod declares no projected volume with a token among its sources that a container mounts: "+
			"it may have opted out of automountServiceAccountToken")
	}
	slices.SortFunc(keys, func(a, b projector.Key) int { return strings.Compare(a.Volume, b.Volume) })
	return keys, nil
}

// names are those of objects, volumes and Pods' UIDs (RFC 1123): nothing that means
// something in a path, a selector or a log.
var names = regexp.MustCompile(`^[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?$`)

const maxName = 253

// checkName refuses a field that is no name.
func checkName(field, name string) error {
	switch {
	case name == "":
		return status.Errorf(codes.InvalidArgument, "%s is required", field)
	case len(name) > maxName || !names.MatchString(name):
		return status.Errorf(codes.InvalidArgument, "%s: want letters, digits, '-' and '.', at most %d of them", field, maxName)
	}
	return nil
}

// checkOptional is checkName for a field that may be empty.
func checkOptional(field, name string) error {
	if name == "" {
		return nil
	}
	return checkName(field, name)
}

// firstOf is the first error that is one.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// keyOf checks an id.
func keyOf(id *api.VolumeId) (projector.Key, error) {
	if id == nil {
		return projector.Key{}, status.Error(codes.InvalidArgument, "id is required")
	}
	if err := firstOf(checkName("id.pod_uid", id.GetPodUid()), checkName("id.volume_name", id.GetVolumeName())); err != nil {
		return projector.Key{}, err
	}
	return projector.Key{PodUID: types.UID(id.GetPodUid()), Volume: id.GetVolumeName()}, nil
}

// refOf checks a reference.
func refOf(pod *api.PodRef) (projector.PodRef, error) {
	if pod == nil {
		return projector.PodRef{}, status.Error(codes.InvalidArgument, "pod is required")
	}
	err := firstOf(checkName("pod.namespace", pod.GetNamespace()), checkName("pod.name", pod.GetName()), checkName("pod.uid", pod.GetUid()))
	if err != nil {
		return projector.PodRef{}, err
	}
	return projector.PodRef{Namespace: pod.GetNamespace(), Name: pod.GetName(), UID: types.UID(pod.GetUid())}, nil
}
