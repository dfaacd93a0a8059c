package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The waits between attempts to connect.
const (
	firstConnectRetry = 250 * time.Millisecond
	lastConnectRetry  = 10 * time.Second
)

// Connect returns a client when the API server has accepted the kubeconfig as
// this node's. Until then it tries again with a backoff, reading the file anew
// each time, and tells o.Report what is wrong. It fails only when ctx ends.
func Connect(ctx context.Context, o Options) (*Client, error) {
	if o.Report == nil {
		o.Report = func(error) {}
	}
	if o.ReportCredential == nil {
		o.ReportCredential = func(error) {}
	}
	for wait := firstConnectRetry; ; wait = min(2*wait, lastConnectRetry) {
		c, err := newClient(o)
		if err == nil {
			err = c.checkIdentity(ctx)
		}
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		o.Report(explain(err))
		select {
		case <-time.After(wait/2 + rand.N(wait/2)): // so that a fleet does not come in step
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// The names of a node's user and group (pkg/auth/nodeidentifier).
const (
	nodeUserPrefix = "system:node:"
	nodesGroup     = "system:nodes"
)

// checkIdentity finds out whether the credential is this node's and whether
// the node exists.
func (c *Client) checkIdentity(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var review authenticationv1.SelfSubjectReview
	err := c.authn.Post().Resource("selfsubjectreviews").Body(&authenticationv1.SelfSubjectReview{}).Do(ctx).Into(&review)
	if err != nil {
		return fmt.Errorf("asking the API server who this is: %w", err)
	}
	user := review.Status.UserInfo
	if user.Username != nodeUserPrefix+c.node {
		return fmt.Errorf("the kubeconfig is of user %q, not of node %q: give that node's kubeconfig, or its name with --node-name",
			user.Username, c.node)
	}
	if !slices.Contains(user.Groups, nodesGroup) {
		return fmt.Errorf("user %q is not in group %q, so the API server does not treat it as a node: "+
			"issue its client certificate with O=%s", user.Username, nodesGroup, nodesGroup)
	}
	var node metav1.PartialObjectMetadata
	err = c.core.Get().Resource("nodes").Name(c.node).
		SetHeader("Accept", metadataOnly("PartialObjectMetadata")).Do(ctx).Into(&node)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("node %q does not exist in the cluster: register it, or correct --node-name", c.node)
	}
	if err != nil {
		return fmt.Errorf("looking up node %q: %w", c.node, err)
	}
	c.nodeUID = string(node.UID)
	return nil
}

// NodeUID is the UID that the Node had when Connect looked it up.
func (c *Client) NodeUID() string { return c.nodeUID }

// errNotSynced is the state between connecting and the first list of Pods.
var errNotSynced = errors.New("listing the node's Pods")
