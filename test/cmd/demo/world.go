package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/referee"
)

// demo is what the steps share.
type demo struct {
	keep bool

	dir      string // for the program, its log and its root directory
	program  string
	cluster  *devcluster.Cluster // nil: another cluster
	client   kubernetes.Interface
	kubeconf string // of the node
	adminCfg string
	node     string
	ns       string
	pods     []*pod
	daemon   *daemon.Daemon
	referee  *referee.Referee
	stopRef  func()
	table    *liveTable
	began    time.Time
}

// build makes the programs that are not there yet.
func (d *demo) build(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "projectord-demo-"); err != nil {
		return err
	}
	if os.Getenv("DEMO_KUBECONFIG") == "" {
		if _, err := devcluster.Binaries(); errors.Is(err, devcluster.ErrNotBuilt) {
			say("etcd, kube-apiserver and kube-controller-manager are compiled from source, once")
		}
		dir, err := devcluster.Build(ctx, indented{})
		if err != nil {
			return err
		}
		say("control plane: %s", dir)
	}
	d.program, err = daemon.Build(ctx, d.dir, false)
	if err == nil {
		say("projectord: built from this tree")
	}
	return err
}

// startCluster starts a control plane of its own, or takes the one that
// DEMO_KUBECONFIG names.
func (d *demo) startCluster(ctx context.Context) (err error) {
	d.began = time.Now()
	if path := os.Getenv("DEMO_KUBECONFIG"); path != "" {
		return d.useCluster(ctx, path)
	}
	if d.cluster, err = devcluster.Start(ctx, devcluster.Config{}); err != nil {
		return err
	}
	if d.client, err = d.cluster.Admin(); err != nil {
		return err
	}
	d.node = "demo-node"
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: d.node}}
	if _, err := d.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("registering the node: %w", err)
	}
	if d.adminCfg, err = d.cluster.AdminKubeconfig(); err != nil {
		return err
	}
	if d.kubeconf, err = d.cluster.NodeKubeconfig(d.node); err != nil {
		return err
	}
	version, err := d.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	say("kube-apiserver %s at %s, Node authorizer and NodeRestriction on", version.GitVersion, d.cluster.URL())
	say("Node %s registered; no kubelet runs", d.node)
	return nil
}

// useCluster derives the node's credential by impersonation, from a kubeconfig
// that may do that.
func (d *demo) useCluster(ctx context.Context, path string) error {
	d.adminCfg, d.node = path, os.Getenv("NODE_NAME")
	if d.node == "" {
		return errors.New("DEMO_KUBECONFIG needs NODE_NAME too: the node to serve")
	}
	raw, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return fmt.Errorf("reading DEMO_KUBECONFIG: %w", err)
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*raw, nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("reading DEMO_KUBECONFIG: %w", err)
	}
	if d.client, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	if _, err := d.client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{}); err != nil {
		return fmt.Errorf("looking up NODE_NAME: %w", err)
	}
	for _, user := range raw.AuthInfos {
		user.Impersonate, user.ImpersonateGroups = "system:node:"+d.node, []string{"system:nodes"}
	}
	d.kubeconf = filepath.Join(d.dir, "node.kubeconfig")
	if err := clientcmd.WriteToFile(*raw, d.kubeconf); err != nil {
		return err
	}
	say("using %s, impersonating node %s", cfg.Host, d.node)
	return nil
}

// root is the daemon's root directory.
func (d *demo) root() string { return filepath.Join(d.dir, "root") }

// startDaemon starts projectord, and the referee that watches its work.
func (d *demo) startDaemon(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		say("not root: volumes are plain directories, and files keep their owner")
	}
	say("projectord --kubeconfig node.kubeconfig --node-name %s --rotation-max-age=%s", d.node, maxAge)
	d.daemon, err = daemon.Start(d.program, filepath.Join(d.dir, "projectord.log"),
		"--kubeconfig="+d.kubeconf, "--node-name="+d.node, "--root-dir="+d.root(),
		"--rotation-max-age="+maxAge.String(), "--pod-selector="+demoLabel+"="+d.ns)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := d.daemon.WaitReady(ctx); err != nil {
		return err
	}
	say("ready; it may do what a kubelet may, for the Pods of its own node only")
	return nil
}

// leaveRunning says how to look around and waits for the end.
func (d *demo) leaveRunning(ctx context.Context) {
	url, err := d.daemon.URL(ctx)
	if err != nil {
		return
	}
	fmt.Printf(`
Still running. Look around, and interrupt to stop:
  find %s/pods
  kubectl --kubeconfig %s -n %s get pods
  curl %s/metrics
  tail -f %s
`, d.root(), d.adminCfg, d.ns, url, filepath.Join(d.dir, "projectord.log"))
	fmt.Println()
	d.table.show(ctx.Done())
}

// close takes everything down again. It works from any state, and after an
// interrupt.
func (d *demo) close() error {
	var errs []error
	if d.stopRef != nil {
		d.stopRef()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	for _, p := range d.pods {
		if !p.deleted {
			errs = append(errs, d.delete(ctx, p))
		}
	}
	if d.daemon != nil {
		errs = append(errs, d.waitNoVolumes(ctx))
		d.daemon.Stop()
	}
	if d.cluster != nil {
		errs = append(errs, d.cluster.Stop())
	} else if d.ns != "" {
		errs = append(errs, d.client.CoreV1().Namespaces().Delete(ctx, d.ns, metav1.DeleteOptions{}))
	}
	if d.dir != "" && errors.Join(errs...) == nil {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleaning up (see %s): %w", d.dir, err)
	}
	return nil
}
