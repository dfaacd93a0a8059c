package csi

import (
	"context"
	"path/filepath"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registryDir is where the kubelet looks for sockets of plugins
// (pkg/kubelet/pluginmanager).
const registryDir = "plugins_registry"

// register serves the kubelet's plugin registration, which is what tells it of the
// driver, until ctx ends.
func (d *Driver) register(ctx context.Context) error {
	path := filepath.Join(d.cfg.KubeletDir, registryDir, d.cfg.Name+"-reg.sock")
	listener, err := listen(path)
	if err != nil {
		return err
	}
	return d.keep(ctx, path, listener, func(s *grpc.Server) { registration.RegisterRegistrationServer(s, d) })
}

// GetInfo implements registration.RegistrationServer.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: d.cfg.Name, Endpoint: d.cfg.Socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus implements registration.RegistrationServer.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if s.GetPluginRegistered() {
		d.cfg.Logger.Info("the kubelet has registered the CSI driver", "driver", d.cfg.Name)
	} else {
		d.cfg.Logger.Warn("the kubelet refuses the CSI driver, and asks again", "driver", d.cfg.Name, "error", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
