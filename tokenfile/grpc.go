package tokenfile

import "context"

// PerRPCCredentials is what gRPC asks for as credentials.PerRPCCredentials, for
// grpc.WithPerRPCCredentials: it sends the token with each call, as
// "authorization: Bearer". A call fails with Unauthenticated while there is no
// token, or only one that has expired. gRPC doesn't tell what a server answers; who
// gets Unauthenticated may call Source.Reread and try again.
//
// Many goroutines may use it.
type PerRPCCredentials struct {
	// Source is where the token comes from. There must be one.
	Source *Source
	// SendExpired is as in Transport.
	SendExpired bool
	// Insecure sends the token over connections without TLS too, such as a Unix
	// socket's.
	Insecure bool
}

// GetRequestMetadata gives the header of a call.
func (c PerRPCCredentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := c.Source.Token(ctx)
	if err = tolerate(err, c.SendExpired); err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token.Reveal()}, nil
}

// RequireTransportSecurity has gRPC refuse a connection without TLS.
func (c PerRPCCredentials) RequireTransportSecurity() bool { return !c.Insecure }
