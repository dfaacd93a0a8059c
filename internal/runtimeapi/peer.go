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
	pid    int32  // 0 if it is not in our PID namespace
	denied string // why it may not call; empty if it may
}

// AuthType implements credentials.AuthInfo.
func (caller) AuthType() string { return "SO_PEERCRED" }

// peerCredentials asks the kernel who has connected: it is the one who called
// connect(2), as our user namespace sees it.
type peerCredentials struct {
	serverCredentials
	peers   Peers
	denials *denials
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
	if err := c.denials.take(conn, who); err != nil {
		return nil, nil, err
	}
	return nil, nil, credentials.ErrConnDispatched
}

// identify says who is at the other end of a socket.
func (p Peers) identify(fd int) (caller, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return caller{}, err
	}
	who := caller{uid: cred.Uid, pid: cred.Pid}
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

// serverCredentials are the parts of credentials that are the same for all of a
// server's.
type serverCredentials struct{}

// ClientHandshake implements credentials.TransportCredentials.
func (serverCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (serverCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "SO_PEERCRED"}
}

// OverrideServerName implements credentials.TransportCredentials.
func (serverCredentials) OverrideServerName(string) error { return nil }

// Clone implements credentials.TransportCredentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// callerOf says who made a call.
func callerOf(ctx context.Context) (caller, error) {
	if from, ok := peer.FromContext(ctx); ok {
		if who, ok := from.AuthInfo.(caller); ok {
			return who, nil
		}
	}
	return caller{}, status.Error(codes.PermissionDenied, "nobody is known to call")
}
