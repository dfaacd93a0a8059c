// Package kube is Kubernetes as seen from one node: who this node is, which
// Pods it has, the objects they reference, and tokens for them. It is the only
// package of this module that makes requests to an API server.
//
// A Client is a projector.Cluster and a rotation.Minter. It writes no file and
// decides nothing about volumes.
package kube

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
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
	"k8s.io/client-go/util/flowcontrol"
)

// Options say how to reach the API server and as whom.
type Options struct {
	// Kubeconfig is the path of the file with the credential. The default is what
	// the kubelet gives a Pod: its ServiceAccount's token.
	Kubeconfig string
	// NodeName is the node whose Pods are served.
	NodeName string
	// Identity says as whom to make requests; the default is IdentityAuto.
	Identity Identity
	// Fallback lets IdentityAuto use the ServiceAccount's own rights where the
	// API server refuses impersonation.
	Fallback bool
	// OwnObjects says which objects are read as the credential's own user, also with
	// IdentityImpersonate; the default is OwnNone.
	OwnObjects OwnObjects
	// QPS and Burst limit requests to the API server; 0 is client-go's default.
	QPS   float32
	Burst int
	// UserAgent is sent with each request.
	UserAgent string
	// Report is told the state of the connection, nil when it works, each time
	// something is learned of it. The default does nothing.
	Report func(error)
	// ReportCredential is told what is wrong with the files of the credential,
	// each time these are looked at; nil if nothing is. The
	// default does nothing.
	ReportCredential func(error)
}

// OwnObjects says which objects a Client reads as the credential's own user. As a
// node it may read only those that a Pod references in its spec, which is not what
// the attributes of a CSI volume do.
type OwnObjects string

// Which objects.
const (
	OwnNone   OwnObjects = ""
	OwnRootCA OwnObjects = "root-ca" // the ConfigMaps kube-root-ca.crt
	OwnAll    OwnObjects = "all"     // all ConfigMaps and Secrets
)

// Client talks to the API server as a node. Make it with Connect. Its methods
// may be called concurrently.
type Client struct {
	node         string
	nodeUID      string
	choice       Choice
	base         *rest.Config // of all rest.Interfaces
	connection   *connection
	core         rest.Interface
	tokens       rest.Interface // the same without a limit; see rotation.Pace
	authn        rest.Interface
	own          rest.Interface // as whoever the credential is of
	ownObjects   OwnObjects
	secretReader rest.Interface
	certificates rest.Interface
	events       *events
	report       func(error)
	reportFiles  func(error)
	pods         cache.Indexer
	watch        cache.Controller
	vouched      vouched

	withoutRights atomic.Bool // see reportRights

	// Set by Run, before any watch begins.
	running      context.Context
	handlers     Handlers
	configMaps   *objects[*corev1.ConfigMap]
	rootCAs      *objects[*corev1.ConfigMap]
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

// contentConfig is how requests and answers are written.
func contentConfig(scheme *runtime.Scheme) rest.ContentConfig {
	return rest.ContentConfig{
		ContentType:          runtime.ContentTypeProtobuf,
		AcceptContentTypes:   runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
	}
}

// newClient makes a client; it makes no request.
func newClient(o Options) (*Client, error) {
	connection := &connection{kubeconfig: o.Kubeconfig, userAgent: o.UserAgent}
	if err := connection.load(); err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c := &Client{node: o.NodeName, connection: connection, report: o.Report, reportFiles: o.ReportCredential, ownObjects: o.OwnObjects}
	c.base = &rest.Config{
		Host: connection.current.Load().base.String(), QPS: o.QPS, Burst: o.Burst, ContentConfig: contentConfig(scheme),
	}
	c.events = newEvents(c)
	if c.authn, err = c.restClient(connection, "/apis", authenticationv1.SchemeGroupVersion, nil); err != nil {
		return nil, err
	}
	if c.own, err = c.restClient(connection, "/api", corev1.SchemeGroupVersion, nil); err != nil {
		return nil, err
	}
	return c, c.requestAs(connection)
}

// requestAs has all requests made through transport but those that ask who
// somebody is. Call it before Run.
func (c *Client) requestAs(transport http.RoundTripper) error {
	var bad error
	client := func(apiPath string, gv schema.GroupVersion, limit flowcontrol.RateLimiter) rest.Interface {
		made, err := c.restClient(transport, apiPath, gv, limit)
		bad = errors.Join(bad, err)
		return made
	}
	c.core = client("/api", corev1.SchemeGroupVersion, nil)
	c.tokens = client("/api", corev1.SchemeGroupVersion, flowcontrol.NewFakeAlwaysRateLimiter())
	c.certificates = client("/apis", certificatesv1.SchemeGroupVersion, nil)
	c.pods, c.watch = c.newPodWatch()
	return bad
}

// restClient makes a client for one API. Without a limit of its own it has the
// default one.
func (c *Client) restClient(transport http.RoundTripper, apiPath string, gv schema.GroupVersion, limit flowcontrol.RateLimiter) (rest.Interface, error) {
	cfg := rest.CopyConfig(c.base)
	cfg.APIPath, cfg.GroupVersion, cfg.RateLimiter = apiPath, &gv, limit
	return rest.RESTClientForConfigAndClient(cfg, &http.Client{Transport: transport})
}
