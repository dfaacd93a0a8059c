package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

func TestMessageLimit(t *testing.T) {
	r := serving(t, plain)
	for size, want := range map[int]codes.Code{maxMessage - 64: codes.InvalidArgument, maxMessage: codes.ResourceExhausted} {
		_, err := r.client.ListVolumes(t.Context(), &api.ListVolumesRequest{PodUid: strings.Repeat("a", size)})
		r.wants(fmt.Sprintf("%d bytes", size), err, want)
	}
}

func TestHeaderLimit(t *testing.T) {
	r := serving(t, plain)
	for size, ok := range map[int]bool{maxHeaders / 2: true, maxHeaders: false} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "padding", strings.Repeat("x", size))
		if _, err := r.client.GetInfo(ctx, &api.GetInfoRequest{}); (err == nil) != ok {
			t.Errorf("%d bytes of headers: %v", size, err)
		}
	}
}

// TestStreamLimit: what a connection asks for beyond the limit waits, and other
// connections are served.
func TestStreamLimit(t *testing.T) {
	r := serving(t, plain)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range maxStreams {
		stream, err := r.client.WatchVolumes(ctx, &api.WatchVolumesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	// It would get there within that time.
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	_, err := r.client.GetInfo(short, &api.GetInfoRequest{})
	r.wants("beyond the limit", err, codes.DeadlineExceeded)
	if _, err := api.NewVolumeServiceClient(r.dial()).GetInfo(t.Context(), &api.GetInfoRequest{}); err != nil {
		t.Errorf("another connection: %v", err)
	}
	cancel()
	r.info()
}

// TestHandshakeLimit: a connection that does not become one of HTTP/2 is closed.
func TestHandshakeLimit(t *testing.T) {
	t.Parallel() // it takes as long as that is
	r := serving(t, plain)
	for _, sent := range []string{"", "PRI * HTTP/2.0\r\n"} {
		t.Run(fmt.Sprintf("%d bytes", len(sent)), func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("unix", r.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			if _, err := r.client.GetInfo(t.Context(), &api.GetInfoRequest{}); err != nil {
				t.Errorf("another connection meanwhile: %v", err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(4 * handshakeTimeout)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it is still open")
			}
		})
	}
}

// TestConnectionLimit: one more is closed at once, and has its place when another has
// gone.
func TestConnectionLimit(t *testing.T) {
	here, there := net.Pipe()
	defer func() { _, _ = here.Close(), there.Close() }()
	queue := make(acceptQueue, 1)
	l := &limitedListener{Listener: queue, open: map[net.Conn]bool{}}
	for range maxConnections - 1 {
		l.open[&net.UnixConn{}] = true
	}
	queue <- here
	last, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	refused, other := net.Pipe()
	defer func() { _ = other.Close() }()
	queue <- refused
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one too many: %v", err)
	}
	for range 2 { // closed twice, it gives back one place
		_ = last.Close()
	}
	if len(l.open) != maxConnections-1 {
		t.Errorf("%d connections", len(l.open))
	}
	next, end := net.Pipe()
	defer func() { _, _ = next.Close(), end.Close() }()
	queue <- next
	if err := <-accepted; err != nil {
		t.Errorf("after another has gone: %v", err)
	}
}

// acceptQueue is a listener of connections that were made already.
type acceptQueue chan net.Conn

func (q acceptQueue) Accept() (net.Conn, error) { return <-q, nil }
func (q acceptQueue) Close() error              { return nil }
func (q acceptQueue) Addr() net.Addr            { return &net.UnixAddr{} }

// TestCallLimit: who calls in a loop is refused, and nobody else is.
func TestCallLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits()
		loop, user := caller{uid: 0, pid: 1}.accountable(), caller{uid: 7, pid: 1}.accountable()
		for _, who := range []accountable{loop, user} {
			for i := range callBurst {
				if !l.allow(who) {
					t.Fatalf("call %d was refused", i)
				}
			}
			if l.allow(who) {
				t.Error("there is no limit")
			}
		}
		if !l.allow(caller{uid: 0, pid: 2}.accountable()) {
			t.Error("another process of root was refused")
		}
		if l.allow(caller{uid: 7, pid: 2}.accountable()) {
			t.Error("another process of a user was not refused")
		}
		time.Sleep(time.Second)
		for i := range callsPerSecond {
			if !l.allow(loop) {
				t.Fatalf("call %d a second later was refused", i)
			}
		}
		time.Sleep(callBurst / callsPerSecond * time.Second)
		l.allow(accountable{uid: 8})
		if len(l.calls) != 1 {
			t.Errorf("%d are remembered", len(l.calls))
		}
	})
}

// TestCallLimitIsTold to who meets it, over the socket.
func TestCallLimitIsTold(t *testing.T) {
	r := serving(t, plain)
	for range 10 * callBurst {
		_, err := r.client.GetInfo(t.Context(), &api.GetInfoRequest{})
		if status.Code(err) == codes.ResourceExhausted {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("there is no limit")
}
