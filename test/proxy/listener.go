package proxy

import (
	"net"
	"sync"
)

// listener hands out connections that can be made silent.
type listener struct {
	net.Listener

	mu     sync.Mutex
	thawed chan struct{}  // closed while not frozen
	conns  map[*conn]bool // whether each is silent for ever
}

func newListener(inner net.Listener) *listener {
	l := &listener{Listener: inner, thawed: make(chan struct{}), conns: map[*conn]bool{}}
	close(l.thawed)
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, from: l, dead: make(chan struct{}), closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = false
	return c, nil
}

func (l *listener) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.thawed:
		l.thawed = make(chan struct{})
	default:
	}
}

func (l *listener) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.thawed:
	default:
		close(l.thawed)
	}
}

func (l *listener) orphan() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, dead := range l.conns {
		if !dead {
			close(c.dead)
			l.conns[c] = true
		}
	}
}

// release closes all connections. Who closes a silent one in the usual way would
// wait to say goodbye.
func (l *listener) release() {
	l.mu.Lock()
	var all []*conn
	for c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// conn passes on what it reads and writes unless it is frozen or dead.
type conn struct {
	net.Conn
	from   *listener
	dead   chan struct{}
	once   sync.Once
	closed chan struct{}
}

// wait returns false when the connection is dead or closed.
func (c *conn) wait() bool {
	c.from.mu.Lock()
	thawed := c.from.thawed
	c.from.mu.Unlock()
	select {
	case <-c.closed:
		return false
	case <-thawed:
	}
	select {
	case <-c.dead:
		<-c.closed
		return false
	default:
		return true
	}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.wait() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if !c.wait() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.from.mu.Lock()
		delete(c.from.conns, c)
		c.from.mu.Unlock()
	})
	return c.Conn.Close()
}
