package csi

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registryDir is where the kubelet looks for sockets of plugins
// (pkg/kubelet/pluginmanager).
const registryDir = "plugins_registry"

// pollRegistry is how often the registration's socket is looked for, besides when
// something in its directory changes.
const pollRegistry = time.Minute

// register serves the kubelet's plugin registration, which is what tells it of the
// driver, until ctx ends. A socket that somebody removes is made anew: a kubelet
// that was installed anew may clear the directory.
func (d *Driver) register(ctx context.Context) error {
	path := filepath.Join(d.cfg.KubeletDir, registryDir, d.cfg.Name+"-reg.sock")
	for ctx.Err() == nil {
		if err := d.registerOnce(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// registerOnce serves one socket until it is gone.
func (d *Driver) registerOnce(ctx context.Context, path string) error {
	listener, err := listen(path)
	if err != nil {
		return err
	}
	server := newServer()
	registration.RegisterRegistrationServer(server, d)
	serving, end := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- serve(serving, server, listener) }()
	waitGone(ctx, path)
	end()
	return <-served
}

// waitGone returns when there is nothing at path any more, or something else.
func waitGone(ctx context.Context, path string) {
	var changes chan fsnotify.Event
	if watcher, err := fsnotify.NewWatcher(); err == nil { // without one, the poll notices
		defer func() { _ = watcher.Close() }()
		_ = watcher.Add(filepath.Dir(path))
		changes = watcher.Events
	}
	first, err := os.Lstat(path)
	for err == nil {
		select {
		case <-changes:
		case <-time.After(pollRegistry):
		case <-ctx.Done():
			return
		}
		var now os.FileInfo
		if now, err = os.Lstat(path); err == nil && !os.SameFile(first, now) {
			return
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			err = nil // it can't be said
		}
	}
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
