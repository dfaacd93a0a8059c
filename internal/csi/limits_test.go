package csi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// TestMessageLimit: what is too large is refused, and what is not is served.
func TestMessageLimit(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		padding int
		want    codes.Code
	}{
		{"below", maxMessage - 4096, codes.OK},
		{"above", maxMessage, codes.ResourceExhausted},
	}
	for _, tt := range tests {
		request := r.publish()
		request.VolumeContext["csi.storage.k8s.io/serviceAccount.tokens"] = strings.Repeat("x", tt.padding)
		if _, err := call(t, r.node.NodePublishVolume, request); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestHeaderLimit(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		size int
		ok   bool
	}{{maxHeaders / 2, true}, {maxHeaders, false}} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "padding", strings.Repeat("x", tt.size))
		if _, err := r.identity.Probe(ctx, &csi.ProbeRequest{}); (err == nil) != tt.ok {
			t.Errorf("%d bytes of headers: %v", tt.size, err)
		}
	}
}

// TestStreamLimit: what a connection asks for beyond the limit waits, and other
// connections are served.
func TestStreamLimit(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	r.volumes.behave(nil, true)
	ask := func(ctx context.Context, volume string) error {
		request := r.publish()
		request.TargetPath = filepath.Join(r.kubelet, podsDir, "0a-b", volumesDir, pluginDir, volume, mountDir)
		_, err := r.node.NodePublishVolume(ctx, request)
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, maxStreams)
	for i := range maxStreams {
		go func() { ended <- ask(ctx, fmt.Sprintf("v%d", i)) }()
	}
	for range maxStreams {
		<-r.volumes.waiting
	}
	// It would get there within that time, and be there for it.
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if err := ask(short, "beyond"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("beyond the limit: %v", err)
	}
	r.volumes.expect(t, maxStreams, 0)
	r.expectNode(t, dial(t, r.driver.cfg.Socket), "n")

	cancel()
	for range maxStreams {
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	}
	r.volumes.behave(nil, false)
	if err := ask(t.Context(), "beyond"); err != nil {
		t.Errorf("after the others: %v", err)
	}
}

// TestHandshakeLimit: a connection that does not become one of HTTP/2 is closed.
func TestHandshakeLimit(t *testing.T) {
	t.Parallel() // it takes as long as that is
	r := newRig(t)
	r.expectNode(t, dial(t, r.driver.cfg.Socket), "n")
	for _, sent := range []string{"", "PRI * HTTP/2.0\r\n"} {
		t.Run(fmt.Sprintf("%d bytes", len(sent)), func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("unix", r.driver.cfg.Socket)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(4 * handshakeTime)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it is still open")
			}
		})
	}
}

// TestRequestLimit: a request whose client sets no time for it ends too.
func TestRequestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(1 << 16)
		server := newServer()
		csi.RegisterIdentityServer(server, slowIdentity{})
		done := make(chan error, 1)
		go func() { done <- server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:pipe", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = csi.NewIdentityClient(conn).Probe(t.Context(), &csi.ProbeRequest{})
		if took := time.Since(began); status.Code(err) != codes.DeadlineExceeded || took != requestTime {
			t.Errorf("it ended after %s: %v", took, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// slowIdentity takes as long as it may.
type slowIdentity struct {
	csi.UnimplementedIdentityServer
}

func (slowIdentity) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}
