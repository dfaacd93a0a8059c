package tokenfile

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Transport is an http.RoundTripper that sends the token with each request, as
// "Authorization: Bearer", and again with the file's new one if the answer is 401
// and there is one.
//
// A request that has an Authorization of its own goes as it is. So does one that
// http.Client makes because a server redirected it to another scheme, host or
// port than was asked for, and all that follow: the token is for who was asked.
// It goes over plain http as well if that is what was asked for.
//
// Requests fail with ErrExpired or ErrNoToken rather than go without. Many
// goroutines may use it; its fields must not change meanwhile.
type Transport struct {
	// Source is where the token comes from. There must be one.
	Source *Source
	// Base sends the requests; nil is http.DefaultTransport.
	Base http.RoundTripper
	// SendExpired sends a token past its deadline too and leaves it to the server:
	// for a machine whose clock is not to be relied on, or for Kubernetes' extended
	// tokens, which the API server takes for a year.
	SendExpired bool
}

// RoundTrip implements http.RoundTripper. The request is sent a second time only
// if it has no body, or one that GetBody can give again.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Authorization") != "" || !asked(req) {
		return t.base().RoundTrip(req)
	}
	token, err := t.Source.Token(req.Context())
	if err = tolerate(err, t.SendExpired); err != nil {
		closeBody(req)
		return nil, err
	}
	resp, err := t.send(req, req.Body, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	next, err := t.Source.Reread(req.Context())
	if tolerate(err, t.SendExpired) != nil || next.Reveal() == token.Reveal() {
		return resp, nil // the server's no is the answer
	}
	body, ok := replay(req)
	if !ok {
		return resp, nil
	}
	// What is left of the answer is read, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
	return t.send(req, body, next)
}

// CloseIdleConnections does so for Base; http.Client's calls it.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// send sends a copy of a request, for the original is the caller's. The answer
// refers to the original, which has no token that could be logged.
func (t *Transport) send(req *http.Request, body io.ReadCloser, token Token) (*http.Response, error) {
	with := req.Clone(req.Context())
	with.Body = body
	with.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := t.base().RoundTrip(with)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// replay returns the body for sending a request again.
func replay(req *http.Request) (io.ReadCloser, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Body, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	return body, err == nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// asked says whether a request and all those that were redirected to it are to
// one origin. http.Client says which answer redirected it; one that doesn't say
// what it answers may have come from anywhere.
func asked(req *http.Request) bool {
	for r := req; r.Response != nil; r = r.Response.Request {
		if before := r.Response.Request; before == nil || origin(before.URL) != origin(req.URL) {
			return false
		}
	}
	return true
}

// origin is a URL's scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// tolerate is an error without the one that a token has expired, if it may be
// sent all the same.
func tolerate(err error, expired bool) error {
	if expired && errors.Is(err, ErrExpired) {
		return nil
	}
	return err
}
