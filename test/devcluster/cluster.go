// Package devcluster runs a real Kubernetes control plane on this machine for
// tests and demonstrations: etcd, kube-apiserver with the Node authorizer and
// NodeRestriction, and kube-controller-manager.
//
// There is no scheduler and no kubelet: give Pods a spec.nodeName, and delete
// them with grace period 0. A cluster has its own keys, directory and ports on
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

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Config says how to run a cluster. The zero value is a good one.
type Config struct {
	// APIServerArgs are added to kube-apiserver's, and win over them, such as
	// --emulated-version=1.35.
	APIServerArgs []string
}

// Cluster is a running control plane. Make it with Start. Its methods may be
// called concurrently.
type Cluster struct {
	// Dir holds everything of the cluster; Stop removes it.
	Dir string
	// The programs, in the order in which they start.
	Etcd, APIServer, ControllerManager *Component

	ca        *authority
	ports     []*port
	apiServer *port
	unlock    func()
	admin     *rest.Config
}

// Start starts a control plane and waits until it serves. The programs must
// have been built; see Build.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	dir, unlock, err := newDir()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, unlock: unlock}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting a control plane: %w", err), c.Stop())
		}
	}()
	if c.ca, err = newAuthority("token-projector-devcluster"); err != nil {
		return nil, err
	}
	if err := c.ca.writePKI(dir); err != nil {
		return nil, err
	}
	var ports [3]*port
	for i := range ports {
		if ports[i], err = reservePort(); err != nil {
			return nil, err
		}
		c.ports = append(c.ports, ports[i])
	}
	etcdClient, etcdPeer := ports[0], ports[1]
	c.apiServer = ports[2]
	if c.admin, err = c.adminConfig(); err != nil {
		return nil, err
	}
	c.Etcd = c.etcd(bin, etcdClient, etcdPeer)
	c.APIServer = c.kubeAPIServer(bin, etcdClient, cfg.APIServerArgs)
	kubeconfig, err := c.AdminKubeconfig()
	if err != nil {
		return nil, err
	}
	c.ControllerManager = c.kubeControllerManager(bin, kubeconfig)
	for _, component := range []*Component{c.Etcd, c.APIServer, c.ControllerManager} {
		if err := component.Start(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Stop ends the control plane and removes its directory.
func (c *Cluster) Stop() error {
	for _, component := range []*Component{c.ControllerManager, c.APIServer, c.Etcd} {
		if component != nil {
			component.Stop()
		}
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
