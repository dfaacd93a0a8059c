package runtimeapi

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// What callers that are denied may use up.
const (
	maxDenied        = 64 // connections; one more is closed
	maxDeniedStreams = 8
	maxDeniedHeaders = 4 << 10
)

// denials are the connections of callers that are denied, on their way to a server
// that has no method: whatever they ask for, nothing of it is looked at, and they
// have one answer. It is a net.Listener.
type denials struct {
	address net.Addr
	places  chan struct{} // one for each connection
	queue   chan net.Conn
	end     func()
	ended   <-chan struct{}
	reports rate.Sometimes
	logger  *slog.Logger
}

func newDenials(address net.Addr, logger *slog.Logger) *denials {
	ended := make(chan struct{})
	return &denials{
		address: address, logger: logger, reports: rate.Sometimes{First: 3, Interval: time.Minute},
		places: make(chan struct{}, maxDenied), queue: make(chan net.Conn, maxDenied),
		ended: ended, end: sync.OnceFunc(func() { close(ended) }),
	}
}

// deniedConn is such a connection.
type deniedConn struct {
	counted
	who caller
}

// take takes a connection over.
func (d *denials) take(conn net.Conn, who caller) error {
	d.reports.Do(func() { d.logger.Warn("a caller of the runtimes' API is denied", "error", who.denied) })
	select {
	case d.places <- struct{}{}:
	default:
		return errors.New("too many connections of callers that are denied")
	}
	d.queue <- &deniedConn{counted{Conn: conn, release: func() { <-d.places }}, who} // it has room for all
	return nil
}

// Accept implements net.Listener.
func (d *denials) Accept() (net.Conn, error) {
	select {
	case conn := <-d.queue:
		return conn, nil
	case <-d.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *denials) Close() error {
	d.end()
	return nil
}

// Addr implements net.Listener.
func (d *denials) Addr() net.Addr { return d.address }

// server is what they talk to.
func (d *denials) server() *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(deniedCredentials{}), grpc.MaxHeaderListSize(maxDeniedHeaders), grpc.MaxConcurrentStreams(maxDeniedStreams),
		grpc.ConnectionTimeout(handshakeTimeout), keepIdle,
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			who, err := callerOf(stream.Context())
			if err != nil {
				return err
			}
			return status.Error(codes.PermissionDenied, who.denied)
		}),
	)
}

// deniedCredentials knows who has connected already.
type deniedCredentials struct{ serverCredentials }

// ServerHandshake implements credentials.TransportCredentials.
func (deniedCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	denied, ok := conn.(*deniedConn)
	if !ok {
		return nil, nil, errors.New("nobody is known to have connected")
	}
	return conn, denied.who, nil
}

// Clone implements credentials.TransportCredentials.
func (c deniedCredentials) Clone() credentials.TransportCredentials { return c }
