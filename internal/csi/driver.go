// Package csi is the CSI node plugin: it lets a kubelet mount our volumes into
// Pods, as inline ephemeral volumes. It speaks the Container Storage Interface and
// the kubelet's plugin registration.
//
// It makes no volume itself: it checks what the kubelet asks for and tells the
// projector, which does the rest.
package csi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/token-projector/token-projector/projector"
)

// Volumes is what the driver asks of a projector.
type Volumes interface {
	// Claim, Await and Unclaim are those of projector.Projector.
	Claim(key projector.Key, path string)
	Await(ctx context.Context, key projector.Key) error
	Unclaim(ctx context.Context, key projector.Key, path string) error
}

// Config is what a Driver needs. Fields without a default are required.
type Config struct {
	Name, Version, NodeName string
	// Socket is the path of the driver's socket, which must be the same for the
	// kubelet as for this process. It is made, over what an earlier process left.
	Socket string
	// KubeletDir is the kubelet's root directory.
	KubeletDir string
	// AnyObject lets volumes have any ConfigMap and Secret as a source; the default is
	// kube-root-ca.crt only.
	AnyObject bool
	Logger    *slog.Logger
}

// Driver serves a kubelet. Make it with New, let Run work and give it Volumes with
// Adopt; until then publishing is Unavailable. Its methods may be called concurrently.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer

	cfg Config

	adopting sync.RWMutex // held for reading while a volume is removed
	mu       sync.Mutex
	volumes  Volumes // nil until Adopt
	busy     map[projector.Key]bool
}

// New checks the configuration. It starts nothing and touches no file.
func New(cfg Config) (*Driver, error) {
	switch {
	case cfg.Name == "" || cfg.Version == "" || cfg.NodeName == "" || cfg.Logger == nil:
		return nil, errors.New("a CSI driver needs a name, a version, a node's name and a logger")
	case !filepath.IsAbs(cfg.Socket) || !filepath.IsAbs(cfg.KubeletDir):
		return nil, fmt.Errorf("socket %q, kubelet directory %q: want absolute paths", cfg.Socket, cfg.KubeletDir)
	}
	return &Driver{cfg: cfg, busy: map[projector.Key]bool{}}, nil
}

// begin makes this request the only one for a volume, until unlock.
func (d *Driver) begin(key projector.Key) (unlock func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[key] {
		return nil, status.Error(codes.Aborted, "another request for this volume is under way")
	}
	d.busy[key] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, key)
	}, nil
}

// adopted returns the volumes, or nil before Adopt.
func (d *Driver) adopted() Volumes {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.volumes
}

// Run serves the driver's socket, and then tells the kubelet of it, until ctx ends.
// Requests that are under way may end within endTime.
func (d *Driver) Run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(d.cfg.Socket), 0750); err != nil {
		return fmt.Errorf("making the directory of the CSI socket: %w", err)
	}
	listener, err := listen(d.cfg.Socket)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return d.keep(ctx, d.cfg.Socket, listener, func(s *grpc.Server) {
			csi.RegisterIdentityServer(s, d)
			csi.RegisterNodeServer(s, d)
		})
	})
	group.Go(func() error { return d.register(ctx) })
	return group.Wait()
}

// GetPluginInfo implements csi.IdentityServer.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.cfg.Name, VendorVersion: d.cfg.Version}, nil
}

// GetPluginCapabilities implements csi.IdentityServer: there is no controller.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

// Probe implements csi.IdentityServer.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(d.adopted() != nil)}, nil
}
