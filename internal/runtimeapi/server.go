// Package runtimeapi serves the API of proto/tokenprojector/v1alpha1 to runtimes on
// the node, on a unix socket that is for root unless others are let in.
//
// It makes no volume itself: it checks what is asked for and tells the projector.
package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/internal/socket"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/atomicdir"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// Volumes is what the server asks of a projector; see projector.Projector.
type Volumes interface {
	Publish(key projector.Key) error
	Await(ctx context.Context, key projector.Key) error
	Unpublish(ctx context.Context, key projector.Key) error
	Volume(key projector.Key) (projector.VolumeStatus, bool)
	Volumes() []projector.VolumeStatus
	Rotate(key projector.Key, pace time.Duration) (tokens int, err error)
	Content(key projector.Key) (atomicdir.Set, error)
}

// Cluster is what the server asks of Kubernetes; see kube.Client.
type Cluster interface {
	FindPod(ctx context.Context, ref projector.PodRef) (*corev1.Pod, error)
}

// Node is what there is to serve, once the API server has been reached.
type Node struct {
	Volumes   Volumes
	Cluster   Cluster
	RotateAll func(pace time.Duration) (tokens int)
	// Identity and User are those by which requests are made.
	Identity, User string
}

// Config is what a Server needs. Fields without a default are required.
type Config struct {
	// Socket is the path of the socket. Its directory is made for it alone.
	Socket            string
	Version, NodeName string
	// Root is the projector's.
	Root string
	// Features are told by GetInfo.
	Features []string
	// GoneGrace is the projector's.
	GoneGrace time.Duration
	// Peers may call; the default is root only.
	Peers Peers
	// ContentUIDs are the users who may have the content of volumes streamed to
	// them; the default is nobody, and the call is switched off.
	ContentUIDs []uint32
	Logger      *slog.Logger
}

// Server serves runtimes. Make it with New, let Run work and give it what to serve
// with Serve; until then calls are Unavailable but GetInfo. Its methods may be called
// concurrently.
type Server struct {
	api.UnimplementedVolumeServiceServer
	cfg    Config
	hub    *hub
	health *health.Server
	limits *limits

	mu      sync.Mutex
	node    *Node
	busy    map[projector.Key]*use
	rotated map[projector.Key]time.Time
}

// New checks the configuration. It starts nothing and touches no file.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Version == "" || cfg.NodeName == "" || cfg.Logger == nil:
		return nil, errors.New("the runtimes' API needs a version, a node's name and a logger")
	case !filepath.IsAbs(cfg.Socket) || len(cfg.Socket) > maxSocketPath:
		return nil, fmt.Errorf("socket %q: want an absolute path of at most %d bytes", cfg.Socket, maxSocketPath)
	}
	return &Server{
		cfg: cfg, hub: newHub(), health: health.NewServer(), limits: newLimits(),
		busy: map[projector.Key]*use{}, rotated: map[projector.Key]time.Time{},
	}, nil
}

// Limits of the server. A message names a volume or two; what comes from a caller
// that has no end must not keep others from being served.
const (
	maxSocketPath    = 107 // of the kernel, see unix(7)
	maxMessage       = 64 << 10
	maxHeaders       = 16 << 10
	maxStreams       = 256
	handshakeTimeout = 5 * time.Second
	maxIdle          = 10 * time.Minute
)

var keepIdle = grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: maxIdle})

// endTime is how long calls that are under way may take when the server ends.
const endTime = 2 * time.Second

// Run serves until ctx ends. Calls that are under way may end within endTime.
func (s *Server) Run(ctx context.Context) error {
	listener, err := listen(s.cfg.Socket, s.cfg.Peers)
	if err != nil {
		return err
	}
	denials := newDenials(listener.Addr(), s.cfg.Logger)
	server := grpc.NewServer(
		grpc.Creds(peerCredentials{peers: s.cfg.Peers, denials: denials}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(math.MaxInt32), grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(handshakeTimeout), keepIdle,
		grpc.UnaryInterceptor(s.admitUnary), grpc.StreamInterceptor(s.admitStream),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.Unimplemented, "no such method") }),
	)
	api.RegisterVolumeServiceServer(server, s)
	grpc_health_v1.RegisterHealthServer(server, s.health)
	s.report(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	reflection.Register(server)
	s.cfg.Logger.Info("serving runtimes", "socket", s.cfg.Socket)

	group, ctx := errgroup.WithContext(ctx)
	limited := &limitedListener{Listener: listener, open: map[net.Conn]bool{}}
	group.Go(func() error { return serve(ctx, server, limited, s.hub.close, limited.closeAll) })
	group.Go(func() error { return serve(ctx, denials.server(), denials, func() {}, limited.closeAll) })
	group.Go(func() error { s.hub.run(ctx, s.describe); return nil })
	err = group.Wait()
	return errors.Join(err, socket.Remove(s.cfg.Socket))
}

// serve serves until ctx ends, and then for endTime at most what is under way.
func serve(ctx context.Context, server *grpc.Server, l net.Listener, endStreams, closeAll func()) error {
	stop := context.AfterFunc(ctx, func() {
		endStreams() // they have no end of their own
		defer time.AfterFunc(endTime, func() { closeAll(); server.Stop() }).Stop()
		server.GracefulStop()
	})
	defer stop()
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving %s: %w", l.Addr(), err)
	}
	return nil
}

// Serve has calls answered from now on: call it once, when all volumes of an earlier
// process are known.
func (s *Server) Serve(n Node) {
	s.mu.Lock()
	s.node = &n
	s.mu.Unlock()
	for _, v := range n.Volumes.Volumes() {
		s.hub.tell(v.Key, message(v)) // before anybody watches
	}
	close(s.hub.ready)
	s.report(grpc_health_v1.HealthCheckResponse_SERVING)
}

// report says how the server and its service are.
func (s *Server) report(status grpc_health_v1.HealthCheckResponse_ServingStatus) {
	for _, service := range []string{"", api.VolumeService_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(service, status)
	}
}

// Changed tells the server of a volume whose status may have changed. It does not
// block.
func (s *Server) Changed(key projector.Key) { s.hub.changed(key) }

// serving returns what there is to serve, or the error of a call that comes too
// early.
func (s *Server) serving() (*Node, error) {
	if !s.hub.isReady() {
		return nil, status.Error(codes.Unavailable, "projectord has not reached the API server, or not looked at all volumes yet: see its /readyz")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node, nil
}

// describe is a volume as the hub tells of it; nil if there is none.
func (s *Server) describe(key projector.Key) *api.Volume {
	n, err := s.serving()
	if err != nil {
		return nil
	}
	v, ok := n.Volumes.Volume(key)
	if !ok {
		return nil
	}
	return message(v)
}
