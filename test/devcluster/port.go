package devcluster

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// port is a TCP port on loopback that is kept for a component for as long as
// the cluster lives, over its restarts too: a socket is bound to it with
// SO_REUSEPORT and never listens, so nobody else is given the port and the
// component, which sets SO_REUSEPORT too, gets every connection.
type port struct {
	number int
	socket *os.File
}

func reservePort() (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	p := &port{socket: os.NewFile(uintptr(fd), "reserved port")}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		_ = p.socket.Close()
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		_ = p.socket.Close()
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	p.number = address.(*unix.SockaddrInet4).Port
	return p, nil
}

func (p *port) url() string { return fmt.Sprintf("https://127.0.0.1:%d", p.number) }

func (p *port) release() { _ = p.socket.Close() }
