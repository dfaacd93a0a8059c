package devcluster

import (
	"context"
	"fmt"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func (c *Cluster) adminConfig() (*rest.Config, error) {
	cert, key, err := c.ca.issue("devcluster-admin", []string{"system:masters"}, false, aYear())
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            c.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.certPEM, CertData: cert, KeyData: key},
		QPS:             -1, // a test must measure the server, not its own client
	}, nil
}

// CAFile is the path of the certificate that all of the cluster are issued by.
func (c *Cluster) CAFile() string { return c.file(caFile) }

// AdminKubeconfig writes a kubeconfig with all rights and returns its path.
func (c *Cluster) AdminKubeconfig() (string, error) {
	return c.kubeconfig("admin", &clientcmdapi.AuthInfo{
		ClientCertificateData: c.admin.CertData, ClientKeyData: c.admin.KeyData,
	})
}

// NodeKubeconfig writes the kubeconfig of a node and returns its path. The
// Node object need not exist.
func (c *Cluster) NodeKubeconfig(node string) (string, error) {
	return c.ClientKubeconfig("node-"+node, "system:node:"+node, []string{"system:nodes"}, aYear())
}

// ClientKubeconfig writes a kubeconfig with a client certificate for any user
// and groups, which may have expired, and returns its path.
func (c *Cluster) ClientKubeconfig(name, user string, groups []string, expires time.Time) (string, error) {
	cert, key, err := c.ca.issue(user, groups, false, expires)
	if err != nil {
		return "", err
	}
	return c.kubeconfig(name, &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}

// ServiceAccountKubeconfig writes a kubeconfig with a token of a
// ServiceAccount that is good for an hour, and returns its path.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	client, err := c.Admin()
	if err != nil {
		return "", err
	}
	token, err := client.CoreV1().ServiceAccounts(namespace).
		CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return c.kubeconfig("serviceaccount-"+namespace+"-"+name, &clientcmdapi.AuthInfo{Token: token.Status.Token})
}

// KubeconfigVia writes the kubeconfig of somebody who reaches the API server at
// another URL and needs no credential there, and returns its path.
func (c *Cluster) KubeconfigVia(name, url string) (string, error) {
	return c.kubeconfigAt(name, url, &clientcmdapi.AuthInfo{})
}

func (c *Cluster) kubeconfig(name string, user *clientcmdapi.AuthInfo) (string, error) {
	return c.kubeconfigAt(name, c.URL(), user)
}

func (c *Cluster) kubeconfigAt(name, url string, user *clientcmdapi.AuthInfo) (string, error) {
	path := c.file(name + ".kubeconfig")
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["devcluster"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: c.ca.certPEM}
	cfg.AuthInfos[name] = user
	cfg.Contexts["devcluster"] = &clientcmdapi.Context{Cluster: "devcluster", AuthInfo: name}
	cfg.CurrentContext = "devcluster"
	content, err := clientcmd.Write(*cfg)
	if err != nil {
		return "", fmt.Errorf("writing kubeconfig %s: %w", name, err)
	}
	if err := os.WriteFile(path, content, 0600); err != nil {
		return "", fmt.Errorf("writing kubeconfig %s: %w", name, err)
	}
	return path, nil
}
