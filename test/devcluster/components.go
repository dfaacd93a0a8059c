package devcluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/test/proc"
)

// ServiceIP is what Pods know the API server by: the first of serviceIPs. Who
// wants them to reach it there has to serve it, because no kube-proxy runs.
const (
	ServiceIP  = "10.96.0.1"
	serviceIPs = "10.96.0.0/24"
)

// newEtcd makes the store. It keeps nothing beyond the cluster's life, so it
// need not sync.
func (c *Cluster) newEtcd(bin string, client, peer *port) *proc.Component {
	return &proc.Component{
		Name: etcd,
		Path: filepath.Join(bin, etcd),
		Log:  c.file(etcd + ".log"),
		Args: []string{
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
		Ready: func(ctx context.Context) error {
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

func (c *Cluster) newAPIServer(bin string, store *port, extra []string) *proc.Component {
	return &proc.Component{
		Name: kubeAPIServer,
		Path: filepath.Join(bin, kubeAPIServer),
		Log:  c.file(kubeAPIServer + ".log"),
		Args: append([]string{
			"--etcd-servers=" + store.url(), "--etcd-cafile=" + c.file(caFile),
			"--etcd-certfile=" + c.file(serverCertFile), "--etcd-keyfile=" + c.file(serverKeyFile),
			"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.apiServer.number), "--permit-port-sharing",
			// It refuses to advertise a loopback address.
			"--endpoint-reconciler-type=none",
			// Nobody is told, but it looks for one, in vain where there is no network.
			"--advertise-address=192.0.2.1",
			"--kubelet-preferred-address-types=InternalIP", // no name is known to any DNS
			"--cert-dir=" + c.Dir, "--tls-cert-file=" + c.file(serverCertFile), "--tls-private-key-file=" + c.file(serverKeyFile),
			"--client-ca-file=" + c.file(caFile),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + c.file(saKeyFile), "--service-account-signing-key-file=" + c.file(saKeyFile),
			"--service-cluster-ip-range=" + serviceIPs,
			"--kubelet-client-certificate=" + c.file(kubeletClientCertFile), "--kubelet-client-key=" + c.file(kubeletClientKeyFile),
		}, extra...),
		Ready: func(ctx context.Context) error {
			client, err := kubernetes.NewForConfig(c.admin)
			if err != nil {
				return err
			}
			return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		},
	}
}

// newControllerManager makes ServiceAccounts and the kube-root-ca.crt
// ConfigMaps, among much else. Where there are no kubelets, the controllers are
// left out that evict the Pods of a Node that nobody reports for.
func (c *Cluster) newControllerManager(bin, kubeconfig string, kubelets bool) *proc.Component {
	controllers := "*"
	if !kubelets {
		controllers += ",-node-lifecycle-controller,-taint-eviction-controller"
	}
	return &proc.Component{
		Name: kubeControllerManager,
		Path: filepath.Join(bin, kubeControllerManager),
		Log:  c.file(kubeControllerManager + ".log"),
		Args: []string{
			"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0",
			"--kube-api-qps=500", "--kube-api-burst=1000", // else its controllers take seconds to start
			"--use-service-account-credentials", "--root-ca-file=" + c.file(caFile),
			"--service-account-private-key-file=" + c.file(saKeyFile),
			"--controllers=" + controllers,
		},
	}
}

func (c *Cluster) newScheduler(bin, kubeconfig string) *proc.Component {
	return &proc.Component{
		Name: KubeScheduler,
		Path: filepath.Join(bin, KubeScheduler),
		Log:  c.file(KubeScheduler + ".log"),
		Args: []string{"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0"},
	}
}
