// Package proxy stands between the API server and one node, or all who know the
// API server by its service IP. It makes faults that the real thing can't be made
// to show, and short lifetimes without cheating: it signs the API server's answers
// anew, with the test cluster's own key, so that the real server refuses a token
// when its time is over.
package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/token-projector/token-projector/test/devcluster"
)

// Rules say what the proxy does. The zero value passes everything on.
type Rules struct {
	// Lifetime that tokens are granted with; zero is what the server says.
	Lifetime time.Duration
	// Fail says with what status a request is answered; zero passes it on.
	Fail func(*http.Request) int
	// RetryAfter is sent with a status of Fail, in seconds, unless zero.
	RetryAfter int
	// TokenDelay is how long the answers to token requests are kept.
	TokenDelay time.Duration
	// NoPods makes lists and watches of the node's Pods empty. What is asked of
	// a single Pod is answered truly.
	NoPods bool
	// Ahead is how far the API server's clock seems to be ahead. The server
	// refuses the tokens that are signed for it.
	Ahead time.Duration
}

// Proxy is a running proxy. Make it with Start. Its methods may be called
// concurrently.
type Proxy struct {
	Kubeconfig string // to reach the API server as the node, through the proxy; empty without a node

	cluster *devcluster.Cluster
	server  *http.Server
	conns   *listener

	mu    sync.Mutex
	rules Rules
	begun context.Context // of requests; ends with Cut
	end   context.CancelFunc

	requests map[string]int // by kind
	granted  int            // token requests that were answered with a token
}

// Start starts a proxy for a node: whoever reaches it acts as the node.
func Start(cluster *devcluster.Cluster, node string) (*Proxy, error) {
	kubeconfig, err := cluster.NodeKubeconfig(node)
	if err != nil {
		return nil, err
	}
	upstream, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	p, err := start(cluster, upstream, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.Kubeconfig, err = cluster.KubeconfigVia("proxied-"+node, "https://"+p.conns.Addr().String())
	if err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// StartForCallers starts a proxy at an address that passes on who its callers say
// they are: tokens and impersonation, but no client certificates. It stands for
// the API server's service IP.
func StartForCallers(cluster *devcluster.Cluster, address string) (*Proxy, error) {
	return start(cluster, rest.AnonymousClientConfig(cluster.AdminConfig()), address)
}

func start(cluster *devcluster.Cluster, upstream *rest.Config, address string) (*Proxy, error) {
	transport, err := rest.TransportFor(upstream)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(upstream.Host)
	if err != nil {
		return nil, err
	}
	certificate, err := cluster.ServerCertificate()
	if err != nil {
		return nil, err
	}
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for the API server: %w", err)
	}
	p := &Proxy{cluster: cluster, conns: newListener(inner), requests: map[string]int{}}
	p.begun, p.end = context.WithCancel(context.Background())
	reverse := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = "" },
		Transport:      transport,
		ModifyResponse: p.modify,
		FlushInterval:  -1,
		ErrorLog:       log.New(io.Discard, "", 0), // an API server that is away is what is tested
	}
	p.server = &http.Server{
		Handler:     p.handler(reverse),
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}},
		ErrorLog:    log.New(io.Discard, "", 0),
		ReadTimeout: 0, // watches last
	}
	go func() { _ = p.server.ServeTLS(p.conns, "", "") }()
	return p, nil
}

// Stop ends the proxy.
func (p *Proxy) Stop() {
	p.Thaw()
	p.conns.release()
	_ = p.server.Close()
}

// Set changes what the proxy does from now on.
func (p *Proxy) Set(r Rules) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = r
}

// Cut ends all requests that are under way, watches too.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	p.begun, p.end = context.WithCancel(context.Background())
}

// Freeze makes the proxy silent: connections stay, and nothing comes.
func (p *Proxy) Freeze() { p.conns.freeze() }

// Thaw ends Freeze.
func (p *Proxy) Thaw() { p.conns.thaw() }

// Orphan makes the connections that there are silent for ever, as when the other
// machine has lost its power. New ones work.
func (p *Proxy) Orphan() { p.conns.orphan() }

// Requests is how many requests of each kind there were, such as "watch pods" or
// "create serviceaccounts/token": a verb and a resource as RBAC rules have them.
// What is no resource has its path in the place of one.
func (p *Proxy) Requests() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.requests)
}

// TokenRequests is how many were made, and how many were answered with a token.
func (p *Proxy) TokenRequests() (made, granted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[tokenRequest], p.granted
}

func (p *Proxy) current() (Rules, context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules, p.begun
}

func (p *Proxy) count(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[kind]++
}

func (p *Proxy) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rules, begun := p.current()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(begun, cancel)()
		r = r.WithContext(ctx)
		p.count(kind(r))
		if IsTokenRequest(r) {
			r.Header.Set("Accept", "application/json") // to be read and signed anew
		}
		if rules.Fail != nil {
			if status := rules.Fail(r); status != 0 {
				fail(w, status, rules.RetryAfter)
				return
			}
		}
		if rules.NoPods && isPodList(r) {
			noPods(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// modify changes the API server's answers.
func (p *Proxy) modify(response *http.Response) error {
	rules, _ := p.current()
	if rules.Ahead != 0 {
		response.Header.Set("Date", time.Now().Add(rules.Ahead).UTC().Format(http.TimeFormat))
	}
	if !IsTokenRequest(response.Request) || response.StatusCode != http.StatusCreated {
		return nil
	}
	p.mu.Lock()
	p.granted++
	p.mu.Unlock()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if rules.Lifetime != 0 || rules.Ahead != 0 {
		if body, err = p.resign(body, rules); err != nil {
			return err
		}
	}
	select {
	case <-time.After(rules.TokenDelay):
	case <-response.Request.Context().Done():
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// resign gives the token of an answer the lifetime, and the clock, of the rules.
func (p *Proxy) resign(body []byte, rules Rules) ([]byte, error) {
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	status := answer["status"].(map[string]any)
	ahead := rules.Ahead.Seconds()
	token, err := p.cluster.Resign(status["token"].(string), func(claims map[string]any) {
		issued := claims["iat"].(float64)
		expires := claims["exp"].(float64)
		private := claims["kubernetes.io"].(map[string]any)
		if warn, ok := private["warnafter"].(float64); ok && rules.Lifetime == 0 {
			private["warnafter"], expires = int64(warn+ahead), warn
		} else {
			delete(private, "warnafter")
		}
		if rules.Lifetime != 0 {
			expires = issued + rules.Lifetime.Seconds()
			claims["exp"] = int64(expires + ahead)
		} else {
			claims["exp"] = int64(claims["exp"].(float64) + ahead)
		}
		claims["iat"], claims["nbf"] = int64(issued+ahead), int64(issued+ahead)
		status["expirationTimestamp"] = time.Unix(int64(expires+ahead), 0).UTC().Format(time.RFC3339)
	})
	if err != nil {
		return nil, err
	}
	status["token"] = token
	return json.Marshal(answer)
}

func fail(w http.ResponseWriter, status, retryAfter int) {
	w.Header().Set("Content-Type", "application/json")
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"message":"the test's proxy says so","details":{"retryAfterSeconds":%d}}`,
		status, retryAfter)
}

// isPodList says whether a request lists or watches the node's Pods.
func isPodList(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/api/v1/pods" &&
		(r.URL.Query().Get("watch") != "" || r.URL.Query().Get("resourceVersion") != "")
}

// noPods answers with an empty list or, where a watch is asked for, begins with
// one and stays silent.
func noPods(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("watch") == "" {
		_, _ = fmt.Fprint(w, `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`)
		return
	}
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		_, _ = fmt.Fprintln(w, `{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`)
	}
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}
