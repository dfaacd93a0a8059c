package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/tokenfile"
)

// TestTokenfile has package tokenfile follow a token of projectord's, from before
// there is a volume, and send it to the API server.
func TestTokenfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	pod := w.create(withVolume(w.newPod("pod"), nil, tokenSource("", 600, "token"), corev1.VolumeProjection{
		ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}},
	}))
	f := w.tokenFiles(pod)[0]
	source, err := tokenfile.Open(f.Path, tokenfile.WithPoll(time.Hour)) // events must do
	w.must(err)
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error)
	go func() { ended <- source.Run(ctx) }()

	d := w.startReady()
	current := func(before string) tokenfile.Token {
		t.Helper()
		var text string
		w.eventually("another token", func() bool { text = w.waitFile(f.Path); return text != before })
		limit := time.After(2 * time.Second)
		for {
			changed := source.Changed()
			if token, err := source.Token(w.ctx); err == nil && token.Reveal() == text {
				return token
			}
			select {
			case <-changed:
			case <-limit:
				t.Fatal("what the file has is not known 2 s later")
			}
		}
	}
	token := current("")
	if want := w.claims(token.Reveal()).ExpiresAt; !token.Deadline.Equal(want) {
		t.Errorf("deadline %s, want %s", token.Deadline, want)
	}
	for range 3 {
		w.must(d.Signal(syscall.SIGUSR1))
		token = current(token.Reveal())
	}
	if w.statusOf(&tokenfile.Transport{Source: source, Base: w.toAPIServer()}) != http.StatusOK {
		t.Error("the API server refuses the token")
	}
	if status := w.statusOf(w.toAPIServer()); status == http.StatusOK {
		t.Error("the API server says that to anybody")
	}

	w.must(d.Term()) // volumes stay
	if again, err := source.Reread(w.ctx); err != nil || again.Reveal() != token.Reveal() {
		t.Errorf("without projectord: %v", err)
	}
	cancel()
	w.must(<-ended)
}

// toAPIServer trusts the API server's certificate and has no credential.
func (w *world) toAPIServer() http.RoundTripper {
	w.Helper()
	ca, err := os.ReadFile(w.cluster.CAFile())
	w.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	w.Cleanup(transport.CloseIdleConnections)
	return transport
}

// statusOf is what the API server says to a request that every ServiceAccount may
// make, and nobody else.
func (w *world) statusOf(transport http.RoundTripper) int {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, w.cluster.URL()+"/api", nil)
	w.must(err)
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	w.must(err)
	w.must(resp.Body.Close())
	return resp.StatusCode
}
