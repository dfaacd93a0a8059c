package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/token-projector/token-projector/test/daemon"
)

// TestBadCredentials gives projectord kubeconfigs that can't work. It must say
// what is wrong, once, stay up and not be ready, and recover by itself when
// what is wrong is put right.
func TestBadCredentials(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	_ = closed.Close()

	// edited is the node's kubeconfig with a change.
	edited := func(change func(*clientcmdapi.Cluster)) func(w *world) string {
		return func(w *world) string {
			cfg, err := clientcmd.LoadFromFile(w.nodeKubeconfig())
			w.must(err)
			for _, c := range cfg.Clusters {
				change(c)
			}
			path := filepath.Join(w.dir, "edited")
			w.must(clientcmd.WriteToFile(*cfg, path))
			return path
		}
	}
	client := func(user func(w *world) string, groups []string, expires time.Duration) func(w *world) string {
		return func(w *world) string {
			path, err := w.cluster.ClientKubeconfig("bad-"+w.ns, user(w), groups, time.Now().Add(expires))
			w.must(err)
			return path
		}
	}
	nodeUser := func(w *world) string { return "system:node:" + w.node }
	nodes := []string{"system:nodes"}

	tests := []struct {
		name string
		// kubeconfig makes one that can't work; "" is none at all.
		kubeconfig func(w *world) string
		says       string
	}{
		{"no kubeconfig", func(*world) string { return "" }, "does not exist (waiting for it)"},
		{"garbage", func(w *world) string {
			path := filepath.Join(w.dir, "garbage")
			w.must(os.WriteFile(path, []byte("\x00not: [a kubeconfig"), 0600))
			return path
		}, "reading kubeconfig"},
		{"empty kubeconfig", func(w *world) string {
			path := filepath.Join(w.dir, "empty")
			w.must(os.WriteFile(path, nil, 0600))
			return path
		}, "reading kubeconfig"},
		{"wrong CA", edited(func(c *clientcmdapi.Cluster) { c.CertificateAuthorityData = otherCA(t) }), "not signed by the CA of the credential"},
		{"wrong server name", edited(func(c *clientcmdapi.Cluster) { c.TLSServerName = "elsewhere.example" }), "not for the name by which it is reached"},
		{"nobody listens", edited(func(c *clientcmdapi.Cluster) { c.Server = "https://" + nobody }), "nothing listens"},
		{"server hangs", edited(func(c *clientcmdapi.Cluster) { c.Server = "https://" + silent.Addr().String() }), "did not answer in time"},
		{"expired credential", client(nodeUser, nodes, -time.Minute), "refuses the credential"},
		{"another node's", client(func(*world) string { return "system:node:other" }, nodes, time.Hour), `is of user "system:node:other", not of node`},
		{"not in the nodes' group", client(nodeUser, nil, time.Hour), `is not in group "system:nodes"`},
		{"a ServiceAccount's", func(w *world) string {
			path, err := w.cluster.ServiceAccountKubeconfig(w.ctx, w.ns, "default")
			w.must(err)
			return path
		}, `is bound to no Pod on a node`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shared)
			path := filepath.Join(w.dir, "kubeconfig")
			if bad := tt.kubeconfig(w); bad != "" {
				w.must(os.Rename(bad, path))
			}
			d := w.startWith("--v=1", "--kubeconfig="+path)
			w.waitReason(d, tt.says)
			if tt.name != "server hangs" { // each attempt takes ten seconds
				w.waitAttempts(d, tt.says)
			}
			if status, body, err := d.Get(w.ctx, "/readyz"); err != nil || status != 503 || !strings.Contains(body, tt.says) {
				t.Errorf("/readyz says %d %q, %v", status, body, err)
			}
			if status, _, err := d.Get(w.ctx, "/livez"); err != nil || status != 200 {
				t.Errorf("/livez says %d, %v", status, err)
			}

			w.must(os.Rename(w.nodeKubeconfig(), path))
			w.waitReady(d)
			assertSaidOnce(t, d, tt.says)
		})
	}
}

// TestNodeThatDoesNotExist starts projectord before its Node is registered.
func TestNodeThatDoesNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.node += "-late"
	d := w.start("--v=1")
	w.waitReason(d, "does not exist in the cluster")
	w.waitAttempts(d, "does not exist in the cluster")
	w.createNode(w.node)
	w.waitReady(d)
	assertSaidOnce(t, d, "does not exist in the cluster")
}

// waitReason waits until projectord has logged why it is not ready.
func (w *world) waitReason(d *daemon.Daemon, says string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	_, err := d.WaitLine(ctx, says, func(l daemon.Line) bool { return strings.Contains(l.Text("reason"), says) })
	w.must(err)
}

// waitAttempts waits until an attempt has failed three times for the same
// reason; repetitions are logged for developers only.
func (w *world) waitAttempts(d *daemon.Daemon, says string) {
	w.Helper()
	w.eventually("three failed attempts", func() bool {
		lines, err := d.Lines()
		w.must(err)
		n := 0
		for _, l := range lines {
			if strings.Contains(l.Text("reason"), says) {
				n++
			}
		}
		return n >= 3
	})
}

// assertSaidOnce looks for the line that an operator sees.
func assertSaidOnce(t *testing.T, d *daemon.Daemon, says string) {
	t.Helper()
	lines, err := d.Lines()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, l := range lines {
		if l.Text("level") != "DEBUG" && strings.Contains(l.Text("reason"), says) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("said %d times that %q, want once", n, says)
	}
}

// otherCA is a CA's certificate that has signed nothing here.
func otherCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestRootDirectoryIsServedByOne starts a second projectord on the same root:
// it must wait, say who holds it, and take over when that one ends.
func TestRootDirectoryIsServedByOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	first := w.startReady()
	refused := w.start()
	select {
	case <-refused.Done():
	case <-time.After(patience):
		t.Fatal("a second projectord on the same root does not end")
	}
	if ended := refused.Ended().Error(); !strings.Contains(ended, "exit status 1") || !strings.Contains(ended, "is already served by process") {
		t.Errorf("the second projectord %s", ended)
	}
	second := w.start()
	first.Stop()
	w.waitReady(second)
}

// TestRootDirectoryThatCanNotBeMade expects an end with a sentence.
func TestRootDirectoryThatCanNotBeMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	file := filepath.Join(w.dir, "file")
	w.must(os.WriteFile(file, nil, 0600))
	d := w.start("--root-dir=" + filepath.Join(file, "root"))
	select {
	case <-d.Done():
	case <-time.After(patience):
		t.Fatal("projectord does not end")
	}
	if ended := d.Ended().Error(); !strings.Contains(ended, "exit status 1") || !strings.Contains(ended, "--root-dir") {
		t.Errorf("projectord %s", ended)
	}
}
