package runtimeapi

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/token-projector/token-projector/internal/grpcerr"
	"github.com/token-projector/token-projector/projector"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
	"github.com/token-projector/token-projector/rotation"
)

// Pages of a list.
const (
	pageSize    = 100
	maxPageSize = 1000
)

// GetInfo implements api.VolumeServiceServer.
func (s *Server) GetInfo(context.Context, *api.GetInfoRequest) (*api.GetInfoResponse, error) {
	info := &api.GetInfoResponse{
		Version: s.cfg.Version, Node: s.cfg.NodeName, RootDir: s.cfg.Root, Features: s.cfg.Features,
		RemovalGraceSeconds: int64(s.cfg.GoneGrace / time.Second),
	}
	if n, err := s.serving(); err == nil {
		info.Identity, info.User = n.Identity, n.User
	}
	return info, nil
}

// GetVolume implements api.VolumeServiceServer.
func (s *Server) GetVolume(_ context.Context, r *api.GetVolumeRequest) (*api.GetVolumeResponse, error) {
	n, key, err := s.find(r.GetId())
	if err != nil {
		return nil, err
	}
	v, ok := n.Volumes.Volume(key)
	if !ok {
		return nil, noVolume(key)
	}
	return &api.GetVolumeResponse{Volume: message(v)}, nil
}

// find checks an id.
func (s *Server) find(id *api.VolumeId) (*Node, projector.Key, error) {
	key, err := keyOf(id)
	if err != nil {
		return nil, key, err
	}
	n, err := s.serving()
	return n, key, err
}

func noVolume(key projector.Key) error {
	return status.Errorf(codes.NotFound, "there is no volume %q of a Pod with UID %q: publish it first", key.Volume, key.PodUID)
}

// ListVolumes implements api.VolumeServiceServer. A page begins after the id that its
// token names, so that what comes and goes meanwhile moves nothing.
func (s *Server) ListVolumes(_ context.Context, r *api.ListVolumesRequest) (*api.ListVolumesResponse, error) {
	after, err := lastOf(r.GetPageToken())
	switch {
	case err != nil:
		return nil, err
	case r.GetPageSize() < 0:
		return nil, status.Error(codes.InvalidArgument, "page_size: want 0 or more")
	}
	if err := checkOptional("pod_uid", r.GetPodUid()); err != nil {
		return nil, err
	}
	n, err := s.serving()
	if err != nil {
		return nil, err
	}
	size := int(min(r.GetPageSize(), maxPageSize))
	if size == 0 {
		size = pageSize
	}
	all := slices.DeleteFunc(n.Volumes.Volumes(), func(v projector.VolumeStatus) bool {
		return r.GetPodUid() != "" && string(v.PodUID) != r.GetPodUid() || orderOf(v.Key) <= after
	})
	slices.SortFunc(all, func(a, b projector.VolumeStatus) int { return strings.Compare(orderOf(a.Key), orderOf(b.Key)) })
	out := &api.ListVolumesResponse{}
	if len(all) > size {
		all = all[:size]
		out.NextPageToken = pageTokens.EncodeToString([]byte(orderOf(all[size-1].Key)))
	}
	for _, v := range all {
		out.Volumes = append(out.Volumes, message(v))
	}
	return out, nil
}

var pageTokens = base64.RawURLEncoding.Strict()

// lastOf is the order of the last volume of the page before, which its token has.
func lastOf(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	order, err := pageTokens.DecodeString(token)
	uid, name, _ := strings.Cut(string(order), "/")
	if err != nil || checkName("", uid) != nil || checkName("", name) != nil {
		return "", status.Error(codes.InvalidArgument, "page_token: want next_page_token of an earlier answer")
	}
	return string(order), nil
}

// orderOf sorts volumes by their ids.
func orderOf(key projector.Key) string { return string(key.PodUID) + "/" + key.Volume }

// RotateVolume implements api.VolumeServiceServer.
func (s *Server) RotateVolume(_ context.Context, r *api.RotateVolumeRequest) (*api.RotateVolumeResponse, error) {
	pace := rotation.ForcedPace
	if r.GetPace() != nil {
		pace = r.GetPace().AsDuration()
	}
	switch {
	case r.GetPace().CheckValid() != nil && r.GetPace() != nil, pace < minPace, pace > maxPace:
		return nil, status.Errorf(codes.InvalidArgument, "pace: want from %s to %s", minPace, maxPace)
	case r.GetAll():
		n, err := s.serving()
		if err != nil {
			return nil, err
		}
		if err := s.rotatesAgain(projector.Key{}); err != nil {
			return nil, err
		}
		return rotated(n.RotateAll(pace)), nil
	case r.GetId() == nil:
		return nil, status.Error(codes.InvalidArgument, "want the id of a volume, or all: true")
	}
	n, key, err := s.find(r.GetId())
	if err != nil {
		return nil, err
	}
	switch v, ok := n.Volumes.Volume(key); {
	case !ok:
		return nil, noVolume(key)
	case v.Generation == "":
		return nil, status.Errorf(codes.FailedPrecondition, "nothing is published in volume %q yet", key.Volume)
	}
	if err := s.rotatesAgain(key); err != nil {
		return nil, err
	}
	tokens, err := n.Volumes.Rotate(key, pace)
	if err != nil {
		return nil, statusOf(err)
	}
	return rotated(tokens), nil
}

func rotated(tokens int) *api.RotateVolumeResponse {
	return &api.RotateVolumeResponse{Tokens: int32(tokens)} //nolint:gosec // a node has no billions of them
}

// The paces that a call may ask for.
const (
	minPace = time.Millisecond
	maxPace = time.Minute
)

// rotateEvery is how soon the same volume is rotated again by a call.
const rotateEvery = 10 * time.Second

// rotatesAgain refuses what was just done; the zero key is for all.
func (s *Server) rotatesAgain(key projector.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if wait := rotateEvery - now.Sub(s.rotated[key]); wait > 0 {
		return status.Errorf(codes.ResourceExhausted, "it was rotated just now: try again in %s", wait.Round(time.Second))
	}
	for other, at := range s.rotated {
		if now.Sub(at) > rotateEvery {
			delete(s.rotated, other)
		}
	}
	s.rotated[key] = now
	return nil
}

// statusOf is the answer to what went wrong.
func statusOf(err error) error { return status.Error(grpcerr.Code(err), err.Error()) }

// message describes a volume.
func message(v projector.VolumeStatus) *api.Volume {
	out := &api.Volume{
		Id:    &api.VolumeId{PodUid: string(v.PodUID), VolumeName: v.Volume},
		Pod:   &api.PodRef{Namespace: v.Namespace, Name: v.Pod, Uid: string(v.PodUID)},
		Phase: phaseOf(v), Generation: v.Generation, LastError: v.Problem, Published: v.Published,
	}
	if v.Generation != "" {
		out.HostPath = v.Path
	}
	for _, f := range v.Files {
		kind := api.FileKind_FILE_KIND_OTHER
		if f.Token {
			kind = api.FileKind_FILE_KIND_TOKEN
		}
		out.Files = append(out.Files, &api.File{Path: f.Path, Mode: f.Mode, Kind: kind})
	}
	for _, t := range v.Tokens {
		out.Tokens = append(out.Tokens, &api.Token{
			Path: t.Path, Audience: t.Audience,
			IssuedAt: timestamppb.New(t.IssuedAt), ExpiresAt: timestamppb.New(t.ExpiresAt), RotateAt: timestamppb.New(t.RotateAt),
		})
	}
	return out
}

func phaseOf(v projector.VolumeStatus) api.Phase {
	switch {
	case v.Terminating:
		return api.Phase_PHASE_TERMINATING
	case v.Phase == projector.PhasePending:
		return api.Phase_PHASE_PENDING
	case v.Phase == projector.PhaseDegraded:
		return api.Phase_PHASE_DEGRADED
	}
	return api.Phase_PHASE_READY
}
