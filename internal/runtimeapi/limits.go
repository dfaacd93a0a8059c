package runtimeapi

import (
	"context"
	"net"
	"sync"
	"syscall"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What callers may use up.
const (
	// callsPerSecond and callBurst are of each accountable. The burst is that of a
	// runtime that starts, and publishes what it has.
	callsPerSecond = 500
	callBurst      = 2000
	// maxConnections are open at once; one more is closed.
	maxConnections = 4096
)

// accountable is on whose account calls are. Root is several programs, and one of them
// that calls in a loop must not have the others refused; another user is one.
type accountable struct {
	uid uint32
	pid int32 // of root
}

func (c caller) accountable() accountable {
	if c.uid == 0 {
		return accountable{pid: c.pid}
	}
	return accountable{uid: c.uid}
}

// limits are what has been called on whose account.
type limits struct {
	mu    sync.Mutex
	calls map[accountable]*rate.Limiter
}

func newLimits() *limits {
	return &limits{calls: map[accountable]*rate.Limiter{}}
}

func (l *limits) allow(who accountable) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.calls[who]
	if !ok {
		for other, idle := range l.calls {
			if idle.Tokens() >= callBurst { // a new one is no different
				delete(l.calls, other)
			}
		}
		limiter = rate.NewLimiter(callsPerSecond, callBurst)
		l.calls[who] = limiter
	}
	return limiter.Allow()
}

// admit says whether a call may be made.
func (s *Server) admit(ctx context.Context) error {
	who, err := callerOf(ctx)
	if err != nil {
		return err
	}
	if !s.limits.allow(who.accountable()) {
		return status.Error(codes.ResourceExhausted, "too many calls: try again in a second")
	}
	return nil
}

func (s *Server) admitUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (s *Server) admitStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := s.admit(stream.Context()); err != nil {
		return err
	}
	return handle(server, stream)
}

// limitedListener accepts no more than maxConnections at once: who waits would never
// find out why.
type limitedListener struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]bool
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.keep(conn) {
			return &counted{Conn: conn, release: func() { l.forget(conn) }}, nil
		}
		_ = conn.Close()
	}
}

func (l *limitedListener) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= maxConnections {
		return false
	}
	l.open[conn] = true
	return true
}

func (l *limitedListener) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}

// closeAll closes all connections. A server that stops waits for those that have not
// said anything yet.
func (l *limitedListener) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.open {
		_ = conn.Close()
	}
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}

// SyscallConn implements syscall.Conn, by which the kernel is asked who has connected.
func (c *counted) SyscallConn() (syscall.RawConn, error) {
	conn, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, syscall.ENOTSUP
	}
	return conn.SyscallConn()
}
