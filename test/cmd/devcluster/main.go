// Command devcluster builds the control plane, or leaves one running until it
// is interrupted and prints how to use it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/devcluster"
)

const usage = `usage: devcluster build [kubelet|e2e]
       devcluster up [kube-apiserver flags]

build compiles etcd, kube-apiserver and kube-controller-manager into the cache,
and what else is asked for: the kubelet, or for e2e tests also kube-scheduler and
kubectl.
up runs them until it is interrupted, with a Node named node-1.
`

// extras are the programs that build adds.
var extras = map[string][]string{
	"":        nil,
	"kubelet": {devcluster.Kubelet},
	"e2e":     {devcluster.Kubelet, devcluster.KubeScheduler, devcluster.Kubectl},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	switch args[0] {
	case "build":
		also, known := extras[strings.Join(args[1:], " ")]
		if !known {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(2)
		}
		dir, err := devcluster.Build(ctx, os.Stderr, also...)
		if err == nil {
			fmt.Println(dir)
		}
		return err
	case "up":
		return up(ctx, args[1:])
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
	return nil
}

func up(ctx context.Context, apiServerArgs []string) error {
	if _, err := devcluster.Build(ctx, os.Stderr); err != nil {
		return err
	}
	c, err := devcluster.Start(ctx, devcluster.Config{APIServerArgs: apiServerArgs})
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop() }()
	client, err := c.Admin()
	if err != nil {
		return err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	admin, err := c.AdminKubeconfig()
	if err != nil {
		return err
	}
	nodeKubeconfig, err := c.NodeKubeconfig(node.Name)
	if err != nil {
		return err
	}
	fmt.Printf(`The control plane runs at %s. Interrupt to stop it.
Look around:
  kubectl --kubeconfig %s get nodes
Serve its node from another terminal:
  bin/projectord --kubeconfig %s --node-name %s --root-dir /tmp/projectord
Logs: %s/*.log
`, c.URL(), admin, nodeKubeconfig, node.Name, c.Dir)
	<-ctx.Done()
	return nil
}
