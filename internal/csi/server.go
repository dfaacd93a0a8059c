package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Limits of a server: requests are small, few at a time, and come from one kubelet.
const (
	maxMessage = 1 << 20 // bytes
	maxHeaders = 8 << 10 // bytes
	maxStreams = 250     // of a connection
	maxIdle    = 30 * time.Minute
	// handshakeTime is how long a connection may take to become one of HTTP/2.
	handshakeTime = 5 * time.Second
	// requestTime is longer than a kubelet waits (csiTimeout in pkg/volume/csi).
	requestTime = 5 * time.Minute
	// endTime is how long requests that are under way may take when the driver ends.
	endTime = 2 * time.Second
)

func newServer() *grpc.Server {
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: maxIdle}),
		grpc.UnaryInterceptor(limitTime),
	)
}

// limitTime ends a request whose client would wait for ever.
func limitTime(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return handle(ctx, request)
}

// listen makes a socket that only root can use, and then puts it in the place of one
// that an earlier process left, so that there is no moment without one. It makes the
// socket's directory, but not those above: where they are missing no kubelet would
// look.
func listen(path string) (net.Listener, error) {
	dir, name := filepath.Split(path)
	if err := os.Mkdir(dir, 0750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making a socket's directory (is --kubelet-dir right?): %w", err)
	}
	hidden := dir + "." + name // which a kubelet ignores
	if err := os.Remove(hidden); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing an old socket: %w", err)
	}
	// In a container, where somebody has removed the directory on the host, this
	// fails until the container is made anew.
	l, err := net.Listen("unix", hidden)
	if err != nil {
		return nil, fmt.Errorf("listening for the kubelet: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // of a name that it has no more
	if err = os.Chmod(hidden, 0600); err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("putting a socket in its place: %w", err)
	}
	return l, nil
}

// keep serves at a socket until ctx ends. One that somebody removes is made anew: a
// kubelet that was installed anew may clear its directories.
func (d *Driver) keep(ctx context.Context, path string, l net.Listener, register func(*grpc.Server)) error {
	for {
		server := newServer()
		register(server)
		serving, end := context.WithCancel(ctx)
		served := make(chan error, 1)
		mine, _ := os.Lstat(path)
		go func() {
			defer end()
			served <- serve(serving, server, l)
		}()
		d.waitGone(serving, path, mine)
		end()
		switch err := <-served; {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("serving %s: %w", path, err)
		}
		d.cfg.Logger.Warn("a socket was removed, and is made anew", "path", path)
		var err error
		if l, err = listen(path); err != nil {
			return err
		}
	}
}

func serve(ctx context.Context, s *grpc.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		// A request may wait for minutes for what nobody works on any more.
		defer time.AfterFunc(endTime, s.Stop).Stop()
		s.GracefulStop()
	})
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// pollSocket is how often a socket is looked for, besides when something in its
// directory changes.
const pollSocket = time.Minute

// waitGone returns when there is nothing at path any more. A socket that another
// process has put there is left alone, or two of them would take turns for ever.
func (d *Driver) waitGone(ctx context.Context, path string, last os.FileInfo) {
	var changes chan fsnotify.Event
	if watcher, err := fsnotify.NewWatcher(); err == nil { // without one, the poll notices
		defer func() { _ = watcher.Close() }()
		_ = watcher.Add(filepath.Dir(path))
		changes = watcher.Events
	}
	for {
		now, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return
		case err == nil && !os.SameFile(last, now):
			d.cfg.Logger.Warn("another process has put its socket in the place of this one: run one projectord on a node", "path", path)
			last = now
		}
		select {
		case <-changes:
		case <-time.After(pollSocket):
		case <-ctx.Done():
			return
		}
	}
}
