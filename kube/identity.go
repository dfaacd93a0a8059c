package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/transport"
)

// Identity says as whom requests are made.
type Identity string

const (
	// IdentityAuto is IdentityNode for a node's credential and
	// IdentityImpersonate for a ServiceAccount's; see Options.Fallback.
	IdentityAuto Identity = "auto"
	// IdentityNode is the node itself: the credential is of user
	// system:node:<name> in group system:nodes.
	IdentityNode Identity = "node"
	// IdentityImpersonate is the node too, for a Pod on it: the credential is a
	// token that is bound to the Pod, with the right to impersonate its own node
	// and nobody else (KEP-5284, constrained impersonation).
	IdentityImpersonate Identity = "impersonate"
	// IdentityServiceAccount is the credential's ServiceAccount with its own
	// rights. What a node may not do, nobody keeps it from but an admission
	// policy.
	IdentityServiceAccount Identity = "serviceaccount"
)

// Valid says whether i is one of the constants.
func (i Identity) Valid() bool {
	return slices.Contains([]Identity{IdentityAuto, IdentityNode, IdentityImpersonate, IdentityServiceAccount}, i)
}

// Choice is as whom a Client makes its requests.
type Choice struct {
	Identity Identity
	// User is the user that the API server sees, and Reason why it is this one.
	User, Reason string
	// Warning is about the ServiceAccount's own rights: that no admission policy
	// limits the tokens that it may request, or that it can't be told; empty if one
	// does.
	Warning string
}

// Choice is as whom the client makes its requests. It was settled by Connect.
func (c *Client) Choice() Choice { return c.choice }

// The names of a node's user and group (pkg/auth/nodeidentifier), of
// ServiceAccounts, and of the claims of a bound token
// (pkg/serviceaccount/claims.go).
const (
	nodeUserPrefix       = "system:node:"
	nodesGroup           = "system:nodes"
	serviceAccountPrefix = "system:serviceaccount:"
	extraNodeName        = "authentication.kubernetes.io/node-name"
)

// identify settles as whom to make requests, by what the credential is and by
// one real request: RBAC accepts any verb, so that a permission review can't
// tell whether the API server knows constrained impersonation.
func (c *Client) identify(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	user, err := c.whoAmI(ctx)
	if err != nil {
		return err
	}
	isNode := strings.HasPrefix(user.Username, nodeUserPrefix)
	wanted := o.Identity
	switch {
	case wanted != IdentityAuto:
	case isNode || !strings.HasPrefix(user.Username, serviceAccountPrefix):
		wanted = IdentityNode
	default:
		wanted = IdentityImpersonate
	}
	if wanted == IdentityNode {
		if err := c.checkNodeUser(user); err != nil {
			return err
		}
		c.choice = Choice{Identity: wanted, User: user.Username, Reason: "the credential is this node's"}
		return c.lookUpNode(ctx)
	}
	if err := c.checkServiceAccount(user); err != nil {
		return err
	}
	if wanted == IdentityImpersonate {
		refused := c.impersonate(ctx)
		if !apierrors.IsForbidden(refused) {
			return refused
		}
		err := c.explainImpersonation(ctx, refused)
		if o.Identity != IdentityAuto || !o.Fallback {
			return err
		}
		return c.useServiceAccount(ctx, user, "impersonation of the own node is refused: "+err.Error())
	}
	return c.useServiceAccount(ctx, user, "it was asked for")
}

// whoAmI asks the API server whose the credential is.
func (c *Client) whoAmI(ctx context.Context) (authenticationv1.UserInfo, error) {
	var review authenticationv1.SelfSubjectReview
	err := c.authn.Post().Resource("selfsubjectreviews").Body(&authenticationv1.SelfSubjectReview{}).Do(ctx).Into(&review)
	if err != nil {
		return authenticationv1.UserInfo{}, fmt.Errorf("asking the API server who this is: %w", err)
	}
	return review.Status.UserInfo, nil
}

func (c *Client) checkNodeUser(user authenticationv1.UserInfo) error {
	if user.Username != nodeUserPrefix+c.node {
		return fmt.Errorf("the credential is of user %q, not of node %q: give that node's kubeconfig, or its name with --node-name",
			user.Username, c.node)
	}
	if !slices.Contains(user.Groups, nodesGroup) {
		return fmt.Errorf("user %q is not in group %q, so the API server does not treat it as a node: "+
			"issue its client certificate with O=%s", user.Username, nodesGroup, nodesGroup)
	}
	return nil
}

// checkServiceAccount finds out whether the credential is a token of a Pod on
// this node. The policy for these relies on that, and so does impersonation.
func (c *Client) checkServiceAccount(user authenticationv1.UserInfo) error {
	if !strings.HasPrefix(user.Username, serviceAccountPrefix) {
		return fmt.Errorf("the credential is of user %q, not of a ServiceAccount: give --identity=node for a node's kubeconfig", user.Username)
	}
	switch nodes := user.Extra[extraNodeName]; {
	case len(nodes) != 1:
		return fmt.Errorf("the token of %q is bound to no Pod on a node: run in a Pod, with the token that the kubelet gives it", user.Username)
	case nodes[0] != c.node:
		return fmt.Errorf("the credential is of a Pod on node %q, not %q: set NODE_NAME to the Pod's spec.nodeName", nodes[0], c.node)
	}
	return nil
}

// impersonate has requests made as the node from now on, if the API server
// accepts one.
func (c *Client) impersonate(ctx context.Context) error {
	user := nodeUserPrefix + c.node
	err := c.requestAs(transport.NewImpersonatingRoundTripper(transport.ImpersonationConfig{UserName: user}, c.connection))
	if err != nil {
		return err
	}
	c.choice = Choice{Identity: IdentityImpersonate, User: user, Reason: "the API server lets this Pod impersonate its own node"}
	return c.lookUpNode(ctx)
}

// explainImpersonation says why impersonation is refused.
func (c *Client) explainImpersonation(ctx context.Context, refused error) error {
	raw, err := c.authn.Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return fmt.Errorf("asking for the API server's version: %w", err)
	}
	if major, minor := parseVersion(raw); major == 1 && minor < impersonationSince {
		return fmt.Errorf("the API server is of Kubernetes %d.%d, and impersonation of the own node came with 1.%d: upgrade it, "+
			"or apply the overlay serviceaccount, which limits the rights that it needs instead, and give --identity-fallback: %w",
			major, minor, impersonationSince, refused)
	}
	return fmt.Errorf("the API server refuses impersonation of the own node: apply the ClusterRole and its binding of deploy/daemonset, "+
		"and look at the feature gate ConstrainedImpersonation of the API server: %w", refused)
}

// useServiceAccount has requests made with the credential's own rights.
func (c *Client) useServiceAccount(ctx context.Context, user authenticationv1.UserInfo, reason string) error {
	if err := c.requestAs(c.connection); err != nil {
		return err
	}
	c.choice = Choice{Identity: IdentityServiceAccount, User: user.Username, Reason: reason}
	err := c.lookUpNode(ctx)
	if err != nil {
		return err
	}
	c.choice.Warning, err = c.policyWarning(ctx, user.Username)
	return err
}

// policyWarning finds out whether a policy keeps the ServiceAccount from requesting
// tokens of its own, as that of the overlay serviceaccount does. It asks for
// one that is bound to a Pod which does not exist, so that none is made:
// admission comes before the API server looks for the Pod
// (pkg/registry/core/serviceaccount/storage/token.go).
func (c *Client) policyWarning(ctx context.Context, user string) (string, error) {
	namespace, name, _ := strings.Cut(strings.TrimPrefix(user, serviceAccountPrefix), ":")
	body := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: "projectord-looks-for-a-policy", UID: "00000000-0000-0000-0000-000000000000",
		},
	}}
	err := c.core.Post().Namespace(namespace).Resource("serviceaccounts").Name(name).SubResource("token").Body(body).Do(ctx).Error()
	switch {
	case apierrors.IsInvalid(err): // a policy's denial is a 422
		return "", nil
	case apierrors.IsForbidden(err): // RBAC's, which comes first
		return "it can't be told whether an admission policy limits the tokens that this ServiceAccount may request, " +
			"because it may request none in its own namespace", nil
	case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsBadRequest(err):
		return "no admission policy limits the tokens that this ServiceAccount may request", nil
	}
	return "", fmt.Errorf("looking for a policy that limits this ServiceAccount: %w", err)
}

// reportRights tells Report when the API server does not let the client act as the
// node any more, and when it does again: nothing else may notice for long, because
// a watch goes on. err is what came of a request.
func (c *Client) reportRights(err error) {
	if c.choice.Identity != IdentityImpersonate {
		return
	}
	// The API server's own words (pkg/endpoints/filters/impersonation of apiserver).
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot impersonate") {
		c.withoutRights.Store(true)
		c.report(fmt.Errorf("the API server does not let this Pod act as its node any more: look at the ClusterRole projectord, "+
			"its binding, and the API server's version: %w", err))
		return
	}
	if err == nil && c.withoutRights.Swap(false) {
		c.report(nil)
	}
}

// lookUpNode finds out whether the node exists.
func (c *Client) lookUpNode(ctx context.Context) error {
	var node metav1.PartialObjectMetadata
	err := c.core.Get().Resource("nodes").Name(c.node).
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
