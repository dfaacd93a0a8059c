package runtimeapi

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/atomicdir"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// errSlow is for a watcher that is cut off.
var errSlow = status.Error(codes.ResourceExhausted, "too slow to read: watch again, from the beginning")

// errEnding is for streams when the process ends.
var errEnding = status.Error(codes.Unavailable, "projectord ends: watch again when it is back")

// WatchVolumes implements api.VolumeServiceServer.
func (s *Server) WatchVolumes(r *api.WatchVolumesRequest, stream grpc.ServerStreamingServer[api.WatchVolumesResponse]) error {
	if err := checkOptional("pod_uid", r.GetPodUid()); err != nil {
		return err
	}
	if _, err := s.serving(); err != nil {
		return err
	}
	w, first, end := s.hub.watch(func(key projector.Key) bool { return r.GetPodUid() == "" || string(key.PodUID) == r.GetPodUid() })
	defer end()
	slices.SortFunc(first, func(a, b *api.WatchVolumesResponse) int { return strings.Compare(nameOf(a), nameOf(b)) })
	first = append(first, &api.WatchVolumesResponse{Type: api.EventType_EVENT_TYPE_INITIAL_SYNC_COMPLETE})
	return s.follow(stream.Context(), w, func(events []*api.WatchVolumesResponse) error {
		for _, event := range append(first, events...) {
			if err := stream.Send(event); err != nil {
				return err
			}
		}
		first = nil
		return nil
	})
}

func nameOf(e *api.WatchVolumesResponse) string {
	return e.GetVolume().GetId().GetPodUid() + "/" + e.GetVolume().GetId().GetVolumeName()
}

// follow calls send with what a watcher is told, at once with nothing, until the
// caller goes, is too slow or the process ends. A send may block for as long as the
// caller does not read: who is cut off meanwhile is not waited for.
func (s *Server) follow(ctx context.Context, w *watcher, send func([]*api.WatchVolumesResponse) error) error {
	sent := make(chan error, 1)
	go func() { sent <- send(nil) }()
	sending, more := true, false
	for {
		select {
		case err := <-sent:
			if err != nil {
				return err
			}
			sending = false
		case <-w.more:
			more = true
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		if err := s.hub.endOf(w); err != nil {
			return err
		}
		if more && !sending {
			events := s.hub.take(w)
			sending, more = true, false
			go func() { sent <- send(events) }()
		}
	}
}

// StreamVolumeContent implements api.VolumeServiceServer.
func (s *Server) StreamVolumeContent(r *api.StreamVolumeContentRequest, stream grpc.ServerStreamingServer[api.StreamVolumeContentResponse]) error {
	if len(s.cfg.ContentUIDs) == 0 {
		return status.Error(codes.Unimplemented, "the content of volumes is not streamed on this node: see --stream-content-uids")
	}
	who, err := callerOf(stream.Context())
	if err != nil {
		return err
	}
	if !slices.Contains(s.cfg.ContentUIDs, who.uid) {
		return status.Errorf(codes.PermissionDenied, "uid %d may not read the content of volumes: see --stream-content-uids", who.uid)
	}
	n, key, err := s.find(r.GetId())
	if err != nil {
		return err
	}
	if _, ok := n.Volumes.Volume(key); !ok {
		return noVolume(key)
	}
	w, _, end := s.hub.watch(func(k projector.Key) bool { return k == key })
	defer end()
	last := ""
	return s.follow(stream.Context(), w, func([]*api.WatchVolumesResponse) error {
		set, err := n.Volumes.Content(key)
		switch _, exists := n.Volumes.Volume(key); {
		case !exists:
			return status.Error(codes.NotFound, "the volume is gone")
		case errors.Is(err, projector.ErrNoVolume), err == nil && set.Generation == last:
			return nil
		case err != nil:
			return statusOf(err)
		}
		last = set.Generation
		return stream.Send(content(set))
	})
}

func content(set atomicdir.Set) *api.StreamVolumeContentResponse {
	out := &api.StreamVolumeContentResponse{Generation: set.Generation}
	for _, f := range set.Files {
		file := &api.FileContent{Path: f.Path, Mode: uint32(f.Mode.Perm()), Uid: -1, Gid: -1, Data: f.Data}
		if f.Owner != nil {
			file.Uid, file.Gid = int64(f.Owner.UID), int64(f.Owner.GID)
		}
		out.Files = append(out.Files, file)
	}
	return out
}
