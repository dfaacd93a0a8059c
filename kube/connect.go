package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The waits between attempts to connect.
const (
	firstConnectRetry = 250 * time.Millisecond
	lastConnectRetry  = 10 * time.Second
)

// Connect returns a client when it is settled as whom it makes requests, and
// the API server has accepted one. Until then it tries again with a backoff,
// reading the credential anew each time, and tells o.Report what is wrong. It
// fails only for an unknown o.Identity, without a node's name, and when ctx ends; what
// was wrong until then is in the error too.
func Connect(ctx context.Context, o Options) (*Client, error) {
	if o.Identity == "" {
		o.Identity = IdentityAuto
	}
	if !o.Identity.Valid() {
		return nil, fmt.Errorf("unknown identity %q", o.Identity)
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	if o.ReportCredential == nil {
		o.ReportCredential = func(error) {}
	}
	if o.NodeName == "" {
		return nil, errors.New("the node's name is missing")
	}
	var problem error
	for wait := firstConnectRetry; ; wait = min(2*wait, lastConnectRetry) {
		c, err := newClient(o)
		if err == nil {
			if err = c.identify(ctx, o); err == nil {
				return c, nil
			}
			c.connection.close()
		}
		if ctx.Err() != nil {
			return nil, gaveUp(ctx, problem)
		}
		problem = explain(err)
		o.Report(problem)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)): // so that a fleet does not come in step
		case <-ctx.Done():
			return nil, gaveUp(ctx, problem)
		}
	}
}

// gaveUp is the error of a context that has ended, with what was wrong until then.
func gaveUp(ctx context.Context, problem error) error {
	if problem == nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ctx.Err(), problem)
}

// errNotSynced is the state between connecting and the first list of Pods.
var errNotSynced = errors.New("listing the node's Pods")
