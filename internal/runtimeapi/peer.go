package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Peers are who may call. The zero value is root only: uid 0, and the user that this
// process runs as.
type Peers struct {
	// UIDs are more users.
	UIDs []uint32
	// Group, unless nil, is a group whose processes may call: those that have it as
	// their effective group.
	Group *uint32
	// OwnNamespaces refuses processes in another user, PID or mount namespace than
	// this process's, as in a container. It needs Linux 6.5, and must be off in a
	// container of our own.
	OwnNamespaces bool
}

// caller is who made a connection, as the kernel says.
type caller struct {
	uid    uint32
	denied string // why it may not call; empty if it may
}

// AuthType implements credentials.AuthInfo.
func (caller) AuthType() string { return "SO_PEERCRED" }

// peerCredentials asks the kernel who has connected: it is the one who called
// connect(2), as our user namespace sees it.
type peerCredentials struct {
	peers  Peers
	denied chan struct{} // a place for each connection of who is denied
}

var _ credentials.TransportCredentials = peerCredentials{}

// ServerHandshake implements credentials.TransportCredentials. Who is denied finds out
// with the first call, and not before: a closed connection says nothing of why.
func (c peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return nil, nil, fmt.Errorf("a connection of type %T has no peer", conn)
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var who caller
	var bad error
	err = control.Control(func(fd uintptr) { who, bad = c.peers.identify(int(fd)) })
	if err := errors.Join(err, bad); err != nil {
		return nil, nil, fmt.Errorf("asking who has connected: %w", err)
	}
	if who.denied == "" {
		return conn, who, nil
	}
	select {
	case c.denied <- struct{}{}:
		return &counted{Conn: conn, release: func() { <-c.denied }}, who, nil
	default:
		return nil, nil, errors.New("too many connections of callers that are denied")
	}
}

// identify says who is at the other end of a socket.
func (p Peers) identify(fd int) (caller, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return caller{}, err
	}
	who := caller{uid: cred.Uid}
	switch {
	case cred.Uid == 0, int(cred.Uid) == os.Geteuid(), slices.Contains(p.UIDs, cred.Uid), p.Group != nil && cred.Gid == *p.Group:
	default:
		who.denied = fmt.Sprintf("uid %d, gid %d may not call: be root, or see --socket-allow-uids and --socket-group", cred.Uid, cred.Gid)
		return who, nil
	}
	if p.OwnNamespaces {
		if err := sameNamespaces(fd); err != nil {
			who.denied = err.Error()
		}
	}
	return who, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "SO_PEERCRED"}
}

// Clone implements credentials.TransportCredentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCredentials) OverrideServerName(string) error { return nil }

// callerOf says who made a call, or that it may not be made. All calls of who is
// denied have the same answer.
func callerOf(ctx context.Context) (caller, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, status.Error(codes.PermissionDenied, "nobody is known to call")
	}
	who, ok := from.AuthInfo.(caller)
	if !ok {
		return caller{}, status.Error(codes.PermissionDenied, "nobody is known to call")
	}
	if who.denied != "" {
		return caller{}, status.Error(codes.PermissionDenied, who.denied)
	}
	return who, nil
}
