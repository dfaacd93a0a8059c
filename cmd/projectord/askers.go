package main

import (
	"time"

	"github.com/token-projector/token-projector/agent"
	"github.com/token-projector/token-projector/internal/csi"
	"github.com/token-projector/token-projector/internal/runtimeapi"
	"github.com/token-projector/token-projector/projector"
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

// serveKubelet has a kubelet answered, once the node's Pods are known.
func (a askers) serveKubelet(node *agent.Agent) error {
	if a.csi == nil {
		return nil
	}
	return a.csi.Adopt(node.Volumes)
}

// serveRuntimes has runtimes answered, once all volumes of an earlier process are known:
// what is not listed there is none.
func (a askers) serveRuntimes(node *agent.Agent) {
	if a.runtimes != nil {
		a.runtimes.Serve(runtimesNode(node))
	}
}
