// Command demo shows projectord's main job on a real control plane, from start
// to finish, and checks it: it fails if a token is not what it should be, is
// not rotated in time, or stays when its Pod is gone.
//
// Environment: DEMO_KEEP=1 leaves everything running until it is interrupted.
// DEMO_KUBECONFIG and NODE_NAME use another cluster, with a kubeconfig that may
// impersonate the node.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/token-projector/token-projector/test/isolate"
)

func main() {
	if os.Getenv("DEMO_KEEP") != "" {
		os.Exit(demoMain()) // its mounts are there to be looked at
	}
	os.Exit(isolate.Run(demoMain))
}

func demoMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
		return 0
	case interrupted:
		fmt.Println("DEMO INTERRUPTED")
		return 130
	}
	fmt.Printf("DEMO FAILED: %v\n", err)
	return 1
}

func run(ctx context.Context) (err error) {
	d := &demo{keep: os.Getenv("DEMO_KEEP") != ""}
	defer func() {
		if cleanupErr := d.close(); err == nil {
			err = cleanupErr
		}
	}()
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"build the programs", d.build},
		{"start a control plane", d.startCluster},
		{"create three Pods", d.createPods},
		{"start projectord as the node", d.startDaemon},
		{"look at the volumes", d.showVolumes},
		{"watch the tokens rotate", d.watchRotations},
		{"delete a Pod", d.deletePod},
		{"check", d.check},
	} {
		if i > 0 || d.keep {
			fmt.Println()
		}
		fmt.Printf("[%d/8] %s\n", i+1, step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	if d.keep {
		d.leaveRunning(ctx)
	}
	report := d.referee.Report()
	if len(report.Problems) > 0 { // while it was left running
		return fmt.Errorf("the files were not right all the time:\n%s", strings.Join(report.Problems, "\n"))
	}
	fmt.Printf("DEMO OK pods=3 tokens=%d rotations=%d lapsed=%d\n", report.Tokens, report.Rotations, report.Lapsed)
	return nil
}
