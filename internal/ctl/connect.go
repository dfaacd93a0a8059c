package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/internal/names"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

const socketEnv = names.CLIEnvPrefix + "SOCKET"

func defaultSocket() string {
	if socket := os.Getenv(socketEnv); socket != "" {
		return socket
	}
	return names.DefaultSocket
}

// client makes calls to projectord. Its methods may be called concurrently.
type client struct {
	api.VolumeServiceClient
	conn   *grpc.ClientConn
	socket string

	mu      sync.Mutex
	dialErr error // of the last attempt to connect
}

// connect makes a client, which connects with its first call.
func (a *app) connect() (*client, error) {
	c := &client{socket: a.socket}
	// The default waits up to two minutes before it looks again whether projectord is back.
	again := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
	// The socket's path would be read as a URL in the place of the target.
	conn, err := grpc.NewClient("passthrough:///"+names.Daemon,
		grpc.WithContextDialer(c.dial), grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: time.Second}))
	if err != nil {
		return nil, fmt.Errorf("connecting to projectord: %w", err)
	}
	c.conn, c.VolumeServiceClient = conn, api.NewVolumeServiceClient(conn)
	return c, nil
}

func (c *client) close() { _ = c.conn.Close() }

func (c *client) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialErr = err
	return conn, err
}

// unreachable is why the last attempt to connect failed, and what to do; nil if it
// did not.
func (c *client) unreachable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch err := c.dialErr; {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("not permitted to use %s: be root, or in the socket's group", c.socket)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens on %s: start projectord, or name its socket with --socket or $%s", c.socket, socketEnv)
	default:
		return fmt.Errorf("connecting to projectord: %w", err)
	}
}

// explain turns what a call returned into what a person can use, and a script by its
// exit code. The server's messages say what to do themselves.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	answer := status.Convert(err)
	said := fmt.Errorf("projectord: %s", answer.Message())
	switch answer.Code() {
	case codes.NotFound:
		return exitError{said, exitNotFound}
	case codes.Unavailable:
		if why := c.unreachable(); why != nil {
			return exitError{why, exitUnreachable}
		}
		return exitError{said, exitNotReady}
	case codes.DeadlineExceeded:
		return exitError{errors.New("no answer within --timeout; what was begun goes on, and 'projectorctl list' shows how far it is"), exitNotReady}
	case codes.Aborted, codes.ResourceExhausted:
		return exitError{said, exitNotReady}
	case codes.Canceled:
		return errors.New("interrupted; what was begun goes on")
	}
	return said
}

// defaultTimeout is for calls that wait for nothing but projectord itself.
const defaultTimeout = 30 * time.Second

// call connects and hands a client over, for calls that take no longer than timeout.
func (a *app) call(ctx context.Context, timeout time.Duration, do func(context.Context, *client) error) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return do(ctx, c)
}
