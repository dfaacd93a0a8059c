package tokenfile_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/tokenfile"
)

var _ credentials.PerRPCCredentials = tokenfile.PerRPCCredentials{}

// TestPerRPCCredentials has a real client call a real server.
func TestPerRPCCredentials(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		got = metadata.ValueFromIncomingContext(ctx, "authorization")
		return handle(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)

	token := filepath.Join(dir, "token")
	source, err := tokenfile.Open(token)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(c tokenfile.PerRPCCredentials) (*grpc.ClientConn, error) {
		return grpc.NewClient("unix:"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(c))
	}
	if _, err := dial(tokenfile.PerRPCCredentials{Source: source}); err == nil {
		t.Error("gRPC takes credentials that need TLS without TLS")
	}
	conn, err := dial(tokenfile.PerRPCCredentials{Source: source, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := grpc_health_v1.NewHealthClient(conn)
	if _, err := client.Check(t.Context(), nil); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a call without a token: %v", err)
	}
	if err := os.WriteFile(token, []byte("one"), 0600); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Check(t.Context(), nil); err != nil || !slices.Equal(got, []string{"Bearer one"}) {
		t.Errorf("the server got %q: %v", got, err)
	}
}
