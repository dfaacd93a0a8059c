// Package integration tests projectord as a program against a real
// kube-apiserver.
package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/isolate"
)

// What all tests share. Each has a node and a namespace of its own on the
// shared cluster, so they run side by side; a test that disturbs the control
// plane starts one of its own.
var (
	program string
	ctl     string // projectorctl
	shared  *devcluster.Cluster
)

// emulated has the shared API server behave as an older one: `make skew`.
var emulated = flag.String("emulated-version", "", "the Kubernetes version to emulate, such as 1.35")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(isolate.Run(func() int { return runAll(m) }))
}

func runAll(m *testing.M) int {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "projectord-integration-")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// With the race detector where there is a C compiler; the Go command
	// turns cgo off where there is none.
	cgo, err := exec.Command("go", "env", "CGO_ENABLED").Output()
	if err != nil {
		return fail(err)
	}
	if program, err = daemon.Build(ctx, dir, strings.TrimSpace(string(cgo)) == "1"); err != nil {
		return fail(err)
	}
	if ctl, err = daemon.BuildCommand(ctx, dir, "projectorctl", false); err != nil {
		return fail(err)
	}
	var older devcluster.Config
	if *emulated != "" {
		older.APIServerArgs = []string{"--emulated-version=" + *emulated}
	}
	if shared, err = devcluster.Start(ctx, older); err != nil {
		return fail(err)
	}
	code := m.Run()
	if err := shared.Stop(); err != nil {
		return fail(err)
	}
	return code
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
