package devcluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/kubernetes"
)

// etcd keeps nothing beyond the cluster's life, so it need not sync.
func (c *Cluster) etcd(bin string, client, peer *port) *Component {
	return &Component{
		name:   "etcd",
		binary: filepath.Join(bin, "etcd"),
		log:    c.file("etcd.log"),
		args: []string{
			"--name=dev", "--data-dir=" + c.file("etcd"), "--log-level=warn", "--unsafe-no-fsync",
			"--socket-reuse-port=true",
			"--listen-client-urls=" + client.url(), "--advertise-client-urls=" + client.url(),
			"--listen-peer-urls=" + peer.url(), "--initial-advertise-peer-urls=" + peer.url(),
			"--initial-cluster=dev=" + peer.url(),
			"--client-cert-auth", "--trusted-ca-file=" + c.file(caFile),
			"--cert-file=" + c.file(serverCertFile), "--key-file=" + c.file(serverKeyFile),
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + c.file(caFile),
			"--peer-cert-file=" + c.file(serverCertFile), "--peer-key-file=" + c.file(serverKeyFile),
		},
		ready: func(ctx context.Context) error {
			// It listens only once it serves; the API server waits for the rest.
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", client.number))
			if err != nil {
				return err
			}
			_ = tls.Client(conn, nil).Close()
			return nil
		},
	}
}

func (c *Cluster) kubeAPIServer(bin string, etcd *port, extra []string) *Component {
	return &Component{
		name:   "kube-apiserver",
		binary: filepath.Join(bin, "kube-apiserver"),
		log:    c.file("kube-apiserver.log"),
		args: append([]string{
			"--etcd-servers=" + etcd.url(), "--etcd-cafile=" + c.file(caFile),
			"--etcd-certfile=" + c.file(serverCertFile), "--etcd-keyfile=" + c.file(serverKeyFile),
			"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.apiServer.number), "--permit-port-sharing",
			// It refuses to advertise a loopback address.
			"--endpoint-reconciler-type=none",
			"--cert-dir=" + c.Dir, "--tls-cert-file=" + c.file(serverCertFile), "--tls-private-key-file=" + c.file(serverKeyFile),
			"--client-ca-file=" + c.file(caFile),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + c.file(saKeyFile), "--service-account-signing-key-file=" + c.file(saKeyFile),
			"--service-cluster-ip-range=10.96.0.0/24",
		}, extra...),
		ready: func(ctx context.Context) error {
			client, err := kubernetes.NewForConfig(c.admin)
			if err != nil {
				return err
			}
			return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		},
	}
}

// kubeControllerManager makes ServiceAccounts and the kube-root-ca.crt
// ConfigMaps. Without the controllers that are left out, Pods of a Node that
// no kubelet reports for are not evicted.
func (c *Cluster) kubeControllerManager(bin, kubeconfig string) *Component {
	return &Component{
		name:   "kube-controller-manager",
		binary: filepath.Join(bin, "kube-controller-manager"),
		log:    c.file("kube-controller-manager.log"),
		args: []string{
			"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0",
			"--kube-api-qps=500", "--kube-api-burst=1000", // else its controllers take seconds to start
			"--use-service-account-credentials", "--root-ca-file=" + c.file(caFile),
			"--service-account-private-key-file=" + c.file(saKeyFile),
			"--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
		},
	}
}
