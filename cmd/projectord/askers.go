package main

import (
	"time"

	"github.com/token-projector/token-projector/internal/csi"
	"github.com/token-projector/token-projector/internal/runtimeapi"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

// askers are those by whom volumes are asked for.
type askers struct {
	pods     *chooser
	csi      *csi.Driver        // may be nil
	runtimes *runtimeapi.Server // may be nil
}

// changed tells runtimes of a volume.
func (a askers) changed(key projector.Key) {
	if a.runtimes != nil {
		a.runtimes.Changed(key)
	}
}

// goneGrace is for volumes of runtimes.
func (a askers) goneGrace() time.Duration {
	if a.runtimes == nil {
		return 0
	}
	return projector.DefaultGoneGrace
}

// serve has them answered, once the node's Pods are known.
func (a askers) serve(client *kube.Client, volumes *projector.Projector, tokens *rotation.Manager) error {
	if a.runtimes != nil {
		a.runtimes.Serve(runtimesNode(client, volumes, tokens))
	}
	if a.csi != nil {
		return a.csi.Adopt(volumes)
	}
	return nil
}
