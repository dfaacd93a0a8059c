package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/token-projector/token-projector/rotation"
)

// Server is where an API server is and whose certificate it must have, with no
// credential: for questions that are asked with a token of a Pod. Make it with
// FindServer. Its methods may be called concurrently.
type Server struct{ config *rest.Config }

// ErrNoServer says that nothing tells where the API server is.
var ErrNoServer = errors.New("it is not known where the API server is")

// FindServer takes the address and the CA from a kubeconfig. Without one the
// address is from the environment that each container has, and ca is the CA in PEM; it
// returns ErrNoServer if there is none of either. It makes no request.
func FindServer(kubeconfig string, ca []byte) (*Server, error) {
	if kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("reading kubeconfig: %w", err)
		}
		return &Server{config: rest.AnonymousClientConfig(config)}, nil
	}
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" || len(ca) == 0 {
		return nil, ErrNoServer
	}
	return &Server{config: &rest.Config{
		Host: "https://" + net.JoinHostPort(host, port), TLSClientConfig: rest.TLSClientConfig{CAData: ca},
	}}, nil
}

// Address is the API server's, as a URL.
func (s *Server) Address() string { return s.config.Host }

// WhoIs asks, with the token itself, whom it speaks for. A token that is refused is
// no error; accepted is false then.
func (s *Server) WhoIs(ctx context.Context, token rotation.Token) (user string, accepted bool, err error) {
	config := rest.CopyConfig(s.config)
	config.BearerToken = token.Reveal()
	var review authenticationv1.SelfSubjectReview
	err = s.request(ctx, config, func(ctx context.Context, c rest.Interface) error {
		return c.Post().Resource("selfsubjectreviews").Body(&authenticationv1.SelfSubjectReview{}).Do(ctx).Into(&review)
	})
	if apierrors.IsUnauthorized(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("asking whom the token speaks for: %w", explain(err))
	}
	return review.Status.UserInfo.Username, true, nil
}

// ClockOffset is how far the API server's clock is ahead of this machine's, to about
// a second. It needs no rights: each answer will do.
func (s *Server) ClockOffset(ctx context.Context) (time.Duration, error) {
	var clock serverClock
	config := rest.CopyConfig(s.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return dated{next: next, clock: &clock} })
	err := s.request(ctx, config, func(ctx context.Context, c rest.Interface) error {
		return c.Get().AbsPath("/version").Do(ctx).Error()
	})
	if at, known := clock.now(); known {
		return time.Until(at), nil
	}
	if err == nil {
		err = errors.New("the answer has no Date")
	}
	return 0, fmt.Errorf("asking for the API server's time: %w", explain(err))
}

// request makes a client for one request, which leaves no connection behind.
func (s *Server) request(ctx context.Context, config *rest.Config, do func(context.Context, rest.Interface) error) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	transport, closeIdle, err := newTransport(config)
	if err != nil {
		return err
	}
	defer closeIdle()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	base := &Client{base: &rest.Config{Host: s.config.Host, ContentConfig: contentConfig(scheme)}}
	c, err := base.restClient(transport, "/apis", authenticationv1.SchemeGroupVersion, nil)
	if err != nil {
		return err
	}
	return do(ctx, c)
}

// dated notes the time of each answer.
type dated struct {
	next  http.RoundTripper
	clock *serverClock
}

func (d dated) RoundTrip(request *http.Request) (*http.Response, error) {
	sent := time.Now()
	response, err := d.next.RoundTrip(request)
	if err == nil {
		d.clock.note(sent, time.Now(), response.Header.Get("Date"))
	}
	return response, err
}
