//go:build runtimes

// Package runtimes runs real processes as Pods, by a runtime on the public API, with a
// real API server and projectord. It needs root; `make runtimes` runs it.
package runtimes

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/image"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/module"
)

// What all tests share.
var (
	projectord, toyruntime, workload string
	shared                           *devcluster.Cluster
)

// On a machine of its own: a process that a killed test leaves ends with it.
func TestMain(m *testing.M) {
	os.Exit(isolate.RunMachine(nil, func(machine isolate.Machine) int {
		code, err := runAll(m, machine.Dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}))
}

func runAll(m *testing.M, dir string) (code int, err error) {
	ctx := context.Background()
	if projectord, err = daemon.Build(ctx, dir, false); err != nil {
		return 0, err
	}
	if toyruntime, err = image.BuildProgram(ctx, dir, module.Path+"/test/runtimes/toyruntime"); err != nil {
		return 0, err
	}
	if workload, err = image.BuildProgram(ctx, dir, module.Path+"/test/runtimes/workload"); err != nil {
		return 0, err
	}
	if shared, err = devcluster.Start(ctx, devcluster.Config{}); err != nil {
		return 0, err
	}
	// As in every container of a cluster.
	server, err := url.Parse(shared.URL())
	if err == nil {
		err = errors.Join(os.Setenv("KUBERNETES_SERVICE_HOST", server.Hostname()), os.Setenv("KUBERNETES_SERVICE_PORT", server.Port()))
	}
	if err != nil {
		return 0, errors.Join(err, shared.Stop())
	}
	code = m.Run()
	return code, shared.Stop()
}
