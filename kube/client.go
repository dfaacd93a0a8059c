// Package kube is Kubernetes as seen from one node: who this node is, which
// Pods it has, the objects they reference, and tokens for them. It is the only
// package of this module that makes requests to an API server.
//
// A Client is a projector.Cluster and a rotation.Minter. It writes no file and
// decides nothing about volumes.
package kube

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say how to reach the API server and as whom.
type Options struct {
	// Kubeconfig is the path of the file with the node's credential.
	Kubeconfig string
	// NodeName is the node whose Pods are served.
	NodeName string
	// QPS and Burst limit requests to the API server; 0 is client-go's default.
	QPS   float32
	Burst int
	// UserAgent is sent with each request.
	UserAgent string
	// Report is told the state of the connection, nil when it works, each time
	// something is learned of it. The default does nothing.
	Report func(error)
}

// Client talks to the API server as a node. Make it with Connect. Its methods
// may be called concurrently.
type Client struct {
	node         string
	core         rest.Interface
	authn        rest.Interface
	certificates rest.Interface
	events       *events
	report       func(error)
	pods         cache.Indexer
	watch        cache.Controller

	// Set by Run, before any watch begins.
	running      context.Context
	onPod        func(*corev1.Pod)
	configMaps   *objects[*corev1.ConfigMap]
	secrets      *objects[*metav1.PartialObjectMetadata]
	trustBundles *objects[*certificatesv1.ClusterTrustBundle]
}

// callTimeout bounds each request but watches, with what client-go retries by
// itself, so that a server that hangs costs a volume no more than this.
const callTimeout = 10 * time.Second

// newScheme knows the few types that are sent and received. The whole
// Clientset would cost 8 MiB of memory.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, authenticationv1.AddToScheme, certificatesv1.AddToScheme, metav1.AddMetaToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return scheme, nil
}

// loadConfig reads the kubeconfig as it is now.
func loadConfig(o Options) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	cfg.QPS, cfg.Burst, cfg.UserAgent = o.QPS, o.Burst, o.UserAgent
	cfg.ContentType = runtime.ContentTypeProtobuf
	cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	// Each idle watch would keep a gzip reader.
	cfg.DisableCompression = true
	return cfg, nil
}

// newClient makes a client; it makes no request.
func newClient(o Options) (*Client, error) {
	cfg, err := loadConfig(o)
	if err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	restClient := func(apiPath string, gv schema.GroupVersion) (rest.Interface, error) {
		c := rest.CopyConfig(cfg)
		c.APIPath, c.GroupVersion = apiPath, &gv
		return rest.RESTClientForConfigAndClient(c, httpClient)
	}
	c := &Client{node: o.NodeName, report: o.Report}
	c.events = newEvents(c)
	if c.core, err = restClient("/api", corev1.SchemeGroupVersion); err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	if c.authn, err = restClient("/apis", authenticationv1.SchemeGroupVersion); err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	if c.certificates, err = restClient("/apis", certificatesv1.SchemeGroupVersion); err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	c.pods, c.watch = c.newPodWatch()
	return c, nil
}
