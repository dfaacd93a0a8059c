// Package devcluster runs a real Kubernetes control plane on this machine for
// tests and demonstrations: etcd, kube-apiserver with the Node authorizer and
// NodeRestriction, and kube-controller-manager.
//
// By default there is no scheduler and no kubelet: give Pods a spec.nodeName, and
// delete them with grace period 0. A cluster has its own keys, directory and ports on
// loopback, so several run side by side. Its programs end with the process
// that started them, even if that is killed; what a killed one left on disk,
// the next Start removes.
package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/proc"
	"github.com/token-projector/token-projector/test/rundir"
)

// Config says how to run a cluster. The zero value is a good one.
type Config struct {
	// APIServerArgs are added to kube-apiserver's, and win over them, such as
	// --emulated-version=1.35.
	APIServerArgs []string
	// Scheduler has kube-scheduler run too; it must have been built.
	Scheduler bool
	// Kubelets says that each Node has a kubelet, so the controllers run that
	// evict the Pods of a Node that nobody reports for.
	Kubelets bool
}

// Cluster is a running control plane. Make it with Start. Its methods may be
// called concurrently.
type Cluster struct {
	// Dir holds everything of the cluster; Stop removes it.
	Dir string
	// The programs, in the order in which they start. Scheduler is nil unless the
	// Config asks for it.
	Etcd, APIServer, ControllerManager, Scheduler *proc.Component

	ca        *authority
	ports     []*port
	apiServer *port
	unlock    func()
	admin     *rest.Config
}

// dirPrefix begins the names of the directories of clusters.
const dirPrefix = "token-projector-devcluster-"

// Start starts a control plane and waits until it serves. The programs must
// have been built; see Build.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	var also []string
	if cfg.Scheduler {
		also = append(also, KubeScheduler)
	}
	bin, err := Binaries(also...)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	if c.Dir, c.unlock, err = rundir.New(dirPrefix, isolate.UnmountBelow); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting a control plane: %w", err), c.Stop())
		}
	}()
	if err := c.configure(bin, cfg); err != nil {
		return nil, err
	}
	for _, component := range c.components() {
		if err := component.Start(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// configure makes the keys, ports and programs, and starts none.
func (c *Cluster) configure(bin string, cfg Config) (err error) {
	if c.ca, err = newAuthority("token-projector-devcluster"); err != nil {
		return err
	}
	if err := c.ca.writePKI(c.Dir); err != nil {
		return err
	}
	var ports [3]*port
	for i := range ports {
		if ports[i], err = reservePort(); err != nil {
			return err
		}
		c.ports = append(c.ports, ports[i])
	}
	client, peer := ports[0], ports[1]
	c.apiServer = ports[2]
	if c.admin, err = c.adminConfig(); err != nil {
		return err
	}
	kubeconfig, err := c.AdminKubeconfig()
	if err != nil {
		return err
	}
	c.Etcd = c.newEtcd(bin, client, peer)
	c.APIServer = c.newAPIServer(bin, client, cfg.APIServerArgs)
	c.ControllerManager = c.newControllerManager(bin, kubeconfig, cfg.Kubelets)
	if cfg.Scheduler {
		c.Scheduler = c.newScheduler(bin, kubeconfig)
	}
	return nil
}

// components are the programs that there are, in the order in which they start.
func (c *Cluster) components() (all []*proc.Component) {
	for _, component := range []*proc.Component{c.Etcd, c.APIServer, c.ControllerManager, c.Scheduler} {
		if component != nil {
			all = append(all, component)
		}
	}
	return all
}

// Stop ends the control plane and removes its directory.
func (c *Cluster) Stop() error {
	for _, component := range slices.Backward(c.components()) {
		component.Stop()
	}
	for _, p := range c.ports {
		p.release()
	}
	err := os.RemoveAll(c.Dir)
	c.unlock()
	return err
}

// URL is the API server's.
func (c *Cluster) URL() string { return c.apiServer.url() }

// Admin is a client with all rights.
func (c *Cluster) Admin() (kubernetes.Interface, error) { return kubernetes.NewForConfig(c.admin) }

// AdminConfig is the configuration of a client with all rights.
func (c *Cluster) AdminConfig() *rest.Config { return rest.CopyConfig(c.admin) }

// NamespaceFilled says whether the controllers have put into a namespace what
// Pods need: the default ServiceAccount and the ConfigMap with the CA.
func NamespaceFilled(ctx context.Context, client kubernetes.Interface, namespace string) (bool, error) {
	_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
	if err == nil {
		_, err = client.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// file is a path in the cluster's directory.
func (c *Cluster) file(name string) string { return filepath.Join(c.Dir, name) }
