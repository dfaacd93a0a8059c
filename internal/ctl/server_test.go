package ctl

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	webUID   = "8da9ba01-f246-4480-92fc-c05dc80fb0c1"
	agentUID = "74b3e8d4-7972-463f-b82a-a292cc8b73b7"
	goneUID  = "0c5f1d3e-58a1-4a8c-8f2a-6f0a1f6f2f11"
)

// fakeServer is a projectord that serves the three volumes of newFake.
type fakeServer struct {
	api.UnimplementedVolumeServiceServer
	volumes []*api.Volume
	fails   error // answers every call
	stuck   bool  // PublishVolume does not answer
	asked   chan any
	// watches is what each watch sends, one after the other; the last one stays open.
	mu      sync.Mutex
	watches [][]*api.WatchVolumesResponse
	ends    []error
}

func token(path, audience string, age, left time.Duration) *api.Token {
	return &api.Token{
		Path: path, Audience: audience, IssuedAt: timestamppb.New(noon.Add(-age)),
		RotateAt: timestamppb.New(noon.Add(left)), ExpiresAt: timestamppb.New(noon.Add(left + 12*time.Minute)),
	}
}

func newFake() *fakeServer {
	root := "/var/lib/projectord/pods/"
	return &fakeServer{asked: make(chan any, 20), volumes: []*api.Volume{
		{
			Id:       &api.VolumeId{PodUid: goneUID, VolumeName: "tokens"},
			Pod:      &api.PodRef{Uid: goneUID},
			HostPath: root + goneUID + "/volumes/kubernetes.io~projected/tokens", Phase: api.Phase_PHASE_TERMINATING, Generation: "..2026_11_23_11_00_00.1",
			Tokens: []*api.Token{token("token", "", 50*time.Minute, -3*time.Second)}, LastError: "the Pod is gone", Published: true,
		},
		{
			Id:    &api.VolumeId{PodUid: agentUID, VolumeName: "vault-token"},
			Pod:   &api.PodRef{Namespace: "vault", Name: "vault-agent-5d8c7f9b6d-x7x2p", Uid: agentUID},
			Phase: api.Phase_PHASE_PENDING, LastError: "the ServiceAccount vault/vault-agent does not exist: create it", Published: true,
		},
		{
			Id:       &api.VolumeId{PodUid: webUID, VolumeName: "kube-api-access-s9spx"},
			Pod:      &api.PodRef{Namespace: "default", Name: "web", Uid: webUID},
			HostPath: root + webUID + "/volumes/kubernetes.io~projected/kube-api-access-s9spx", Phase: api.Phase_PHASE_READY, Generation: "..2026_11_23_11_30_00.2",
			Files: []*api.File{
				{Path: "ca.crt", Mode: 0644, Kind: api.FileKind_FILE_KIND_OTHER},
				{Path: "db/token", Mode: 0600, Kind: api.FileKind_FILE_KIND_TOKEN},
				{Path: "token", Mode: 0600, Kind: api.FileKind_FILE_KIND_TOKEN},
			},
			Tokens:    []*api.Token{token("db/token", "db", 2*time.Minute, 6*time.Minute), token("token", "", 30*time.Minute, 18*time.Minute)},
			Published: true,
		},
	}}
}

func (f *fakeServer) ask(request any) error {
	f.asked <- request
	return f.fails
}

func (f *fakeServer) GetInfo(_ context.Context, r *api.GetInfoRequest) (*api.GetInfoResponse, error) {
	return &api.GetInfoResponse{Version: "v1.2.3", Node: "node-1", Identity: "node", User: "system:node:node-1",
		Features: []string{"csi", "stream-content"}, RemovalGraceSeconds: 600, RootDir: "/var/lib/projectord"}, f.ask(r)
}

// ListVolumes has pages of two.
func (f *fakeServer) ListVolumes(_ context.Context, r *api.ListVolumesRequest) (*api.ListVolumesResponse, error) {
	if err := f.ask(r); err != nil {
		return nil, err
	}
	out := &api.ListVolumesResponse{}
	for _, v := range f.volumes {
		if r.GetPodUid() == "" || r.GetPodUid() == v.GetId().GetPodUid() {
			out.Volumes = append(out.Volumes, v)
		}
	}
	switch split := min(2, len(out.Volumes)); {
	case r.GetPageToken() != "":
		out.Volumes = out.Volumes[split:]
	case split < len(out.Volumes):
		out.Volumes, out.NextPageToken = out.Volumes[:split], "the rest"
	}
	return out, nil
}

func (f *fakeServer) GetVolume(_ context.Context, r *api.GetVolumeRequest) (*api.GetVolumeResponse, error) {
	if err := f.ask(r); err != nil {
		return nil, err
	}
	for _, v := range f.volumes {
		if idText(v.GetId()) == idText(r.GetId()) {
			return &api.GetVolumeResponse{Volume: v}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "there is no volume %s: publish it first", idText(r.GetId()))
}

func (f *fakeServer) PublishVolume(ctx context.Context, r *api.PublishVolumeRequest) (*api.PublishVolumeResponse, error) {
	if err := f.ask(r); err != nil {
		return nil, err
	}
	if f.stuck {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	out := &api.PublishVolumeResponse{}
	for _, v := range f.volumes {
		if v.GetId().GetPodUid() == r.GetPod().GetUid() {
			if r.GetWaitReady() && v.GetPhase() == api.Phase_PHASE_PENDING {
				return nil, status.Error(codes.FailedPrecondition, v.GetLastError())
			}
			out.Volumes = append(out.Volumes, v)
		}
	}
	return out, nil
}

func (f *fakeServer) UnpublishVolume(_ context.Context, r *api.UnpublishVolumeRequest) (*api.UnpublishVolumeResponse, error) {
	return &api.UnpublishVolumeResponse{}, f.ask(r)
}

func (f *fakeServer) RotateVolume(_ context.Context, r *api.RotateVolumeRequest) (*api.RotateVolumeResponse, error) {
	return &api.RotateVolumeResponse{Tokens: 2}, f.ask(r)
}

func (f *fakeServer) WatchVolumes(r *api.WatchVolumesRequest, stream grpc.ServerStreamingServer[api.WatchVolumesResponse]) error {
	if err := f.ask(r); err != nil {
		return err
	}
	f.mu.Lock()
	events, end, last := f.watches[0], error(nil), len(f.watches) == 1
	if !last {
		end, f.watches, f.ends = f.ends[0], f.watches[1:], f.ends[1:]
	}
	f.mu.Unlock()
	for _, e := range events {
		if err := stream.Send(e); err != nil {
			return err
		}
	}
	if last {
		<-stream.Context().Done()
	}
	return end
}

// serve starts it, and returns its socket.
func (f *fakeServer) serve(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	f.serveOn(t, socket)
	return socket
}

func (f *fakeServer) serveOn(t *testing.T, socket string) *grpc.Server {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	api.RegisterVolumeServiceServer(server, f)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); wg.Wait() })
	return server
}

// ctl runs a command at noon.
func ctl(t *testing.T, socket string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{now: func() time.Time { return noon }}
	code = a.run(t.Context(), append(args, "--socket="+socket), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}
