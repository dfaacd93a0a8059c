package kube

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// connection sends requests to the API server with the credential as it is now:
// a kubeconfig, and each file that it names, may be replaced any number of
// times, and so may a Pod's token. A connection that was made before is used until it is idle.
type connection struct {
	kubeconfig string // "": the ServiceAccount of this Pod
	userAgent  string
	clock      serverClock

	loading sync.Mutex // one reload at a time
	current atomic.Pointer[endpoint]
}

// endpoint is one reading of the kubeconfig.
type endpoint struct {
	base      *url.URL
	transport http.RoundTripper
	close     func()
	digest    [sha256.Size]byte // of all files that were read
	files     []string
}

// load reads the kubeconfig, and takes what it says if that is new.
func (c *connection) load() error {
	c.loading.Lock()
	defer c.loading.Unlock()
	before := c.current.Load()
	if before != nil { // it is looked at often, and seldom new
		if sum, err := digest(before.files); err == nil && sum == before.digest {
			return nil
		}
	}
	now, err := c.read()
	if err != nil {
		return err
	}
	c.current.Store(now)
	if before != nil {
		before.close()
	}
	return nil
}

// errReplaced says that a file became another while it was read.
var errReplaced = errors.New("its files are being replaced")

// read makes an endpoint of the kubeconfig as it is now. What is read is what
// the digest is of: else a file that is replaced meanwhile would go unnoticed.
func (c *connection) read() (e *endpoint, err error) {
	for range 5 {
		if e, err = c.readOnce(); !errors.Is(err, errReplaced) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.source(), err)
	}
	return e, nil
}

// source names where the credential comes from.
func (c *connection) source() string {
	if c.kubeconfig == "" {
		return "the Pod's ServiceAccount token"
	}
	return "kubeconfig"
}

func (c *connection) config() (*rest.Config, error) {
	if c.kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", c.kubeconfig)
}

func (c *connection) readOnce() (*endpoint, error) {
	first, err := c.config()
	if err != nil {
		return nil, err
	}
	e := &endpoint{files: c.filesOf(first)}
	if e.digest, err = digest(e.files); err != nil {
		return nil, err
	}
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = c.userAgent
	cfg.DisableCompression = true // each idle watch would keep a gzip reader
	if e.base, _, err = rest.DefaultServerUrlFor(cfg); err != nil {
		return nil, err
	}
	if e.transport, e.close, err = newTransport(cfg); err != nil {
		return nil, err
	}
	after, err := digest(c.filesOf(cfg))
	if err != nil || after != e.digest {
		e.close()
		return nil, errors.Join(errReplaced, err)
	}
	return e, nil
}

// filesOf are the files that a credential is read from.
func (c *connection) filesOf(cfg *rest.Config) []string {
	var files []string
	for _, f := range []string{c.kubeconfig, cfg.CAFile, cfg.CertFile, cfg.KeyFile, cfg.BearerTokenFile} {
		if f != "" {
			files = append(files, f)
		}
	}
	return files
}

// newTransport is rest.TransportFor without its cache, which keeps a transport
// for each credential that there ever was.
func newTransport(cfg *rest.Config) (_ http.RoundTripper, closeIdle func(), err error) {
	if cfg.ExecProvider != nil { // it renews its credential by itself
		transport, err := rest.TransportFor(cfg)
		return transport, func() {}, err
	}
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, nil, err
	}
	proxy := http.ProxyFromEnvironment
	if cfg.Proxy != nil {
		proxy = cfg.Proxy
	}
	// The defaults find out within 45 s that the other side of a connection is
	// gone, and close a connection that is idle.
	base := utilnet.SetTransportDefaults(&http.Transport{
		Proxy: proxy, TLSClientConfig: tlsConfig, TLSHandshakeTimeout: callTimeout,
		DialContext:        (&net.Dialer{Timeout: callTimeout, KeepAlive: 30 * time.Second}).DialContext,
		DisableCompression: true,
	})
	transport, err := rest.HTTPWrappersForConfig(cfg, base)
	return transport, base.CloseIdleConnections, err
}

// digest is that of the files' names and content.
func digest(files []string) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return sum, err
		}
		_, _ = fmt.Fprintf(h, "%q %d ", f, len(content))
		_, _ = h.Write(content)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// close gives connections up that are idle; a later request makes another.
func (c *connection) close() { c.current.Load().close() }

// RoundTrip implements http.RoundTripper. The request's host may be that of an
// earlier kubeconfig.
func (c *connection) RoundTrip(request *http.Request) (*http.Response, error) {
	e := c.current.Load()
	if request.URL.Host != e.base.Host || request.URL.Scheme != e.base.Scheme {
		request = request.Clone(request.Context())
		request.URL.Scheme, request.URL.Host = e.base.Scheme, e.base.Host
	}
	sent := time.Now()
	response, err := e.transport.RoundTrip(request)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			c.renew(e)
		}
		return nil, err
	}
	c.clock.note(sent, time.Now(), response.Header.Get("Date"))
	if response.StatusCode == http.StatusUnauthorized {
		// The next request may have better luck. What is wrong with the files,
		// follow reports.
		_ = c.load()
	}
	return response, nil
}

// renew has requests from now on made on another connection: the one of e gave
// no answer, and may lead nowhere, which the kernel finds out much later.
func (c *connection) renew(e *endpoint) {
	c.loading.Lock()
	defer c.loading.Unlock()
	if c.current.Load() != e {
		return // that has been done
	}
	if fresh, err := c.read(); err == nil {
		c.current.Store(fresh)
		e.close()
	}
}
