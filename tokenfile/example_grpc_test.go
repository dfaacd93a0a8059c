package tokenfile_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/token-projector/token-projector/tokenfile"
)

// A client that sends the token with each call.
func ExamplePerRPCCredentials() {
	dir, err := os.MkdirTemp("", "token-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path, socket := filepath.Join(dir, "token"), filepath.Join(dir, "socket")
	if err := os.WriteFile(path, []byte("one"), 0600); err != nil {
		fmt.Println(err)
		return
	}
	stop, err := serve(socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	source, err := tokenfile.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := grpc.NewClient("unix:"+socket,
		// Over a network use credentials.NewTLS, and leave Insecure out.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(tokenfile.PerRPCCredentials{Source: source, Insecure: true}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.GetStatus())
	// Output:
	// the server got [Bearer one]
	// SERVING
}

// serve is a server that prints what each call is sent with.
func serve(socket string) (stop func(), err error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			fmt.Println("the server got", metadata.ValueFromIncomingContext(ctx, "authorization"))
			return handle(ctx, request)
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	return server.Stop, nil
}
