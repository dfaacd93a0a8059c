package kube

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/token-projector/token-projector/rotation"
)

var (
	_ rotation.Minter = (*Client)(nil)
	_ rotation.Minter = Minter{}
)

// Minter makes TokenRequests with a client of one's own, for who needs tokens of
// Pods and not a Client. It may be used by many goroutines.
type Minter struct {
	// Core is a client of the core API, such as client-go's
	// Clientset.CoreV1().RESTClient(). Its user needs the right to create
	// serviceaccounts/token; a node's has it, for the Pods on it. Its rate limit
	// holds up tokens too: leave the limit to a rotation.Pace.
	Core rest.Interface
}

// Mint makes one TokenRequest, bound to the Pod by name and UID as NodeRestriction
// demands. It does not retry, and gives up after ten seconds.
func (m Minter) Mint(ctx context.Context, r rotation.Request, accountUID string) (rotation.Token, time.Time, error) {
	token, expiration, err := m.request(ctx, r, accountUID)
	return token, expiration, explainMint(r, err)
}

// request does the work of Mint; its error is the API's.
func (m Minter) request(ctx context.Context, r rotation.Request, accountUID string) (rotation.Token, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	seconds := int64(r.Lifetime / time.Second)
	body := &authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{UID: types.UID(accountUID)}, Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: r.Pod.Name, UID: types.UID(r.Pod.UID),
		},
	}}
	if r.Audience != "" {
		body.Spec.Audiences = []string{r.Audience}
	}
	var answer authenticationv1.TokenRequest
	err := m.Core.Post().MaxRetries(0).Namespace(r.Namespace).Resource("serviceaccounts").Name(r.ServiceAccount).SubResource("token").
		Body(body).Do(ctx).Into(&answer)
	if apierrors.IsConflict(err) && accountUID != "" {
		err = fmt.Errorf("%w: %w", rotation.ErrServiceAccountReplaced, err)
	}
	if err != nil {
		return rotation.Token{}, time.Time{}, err
	}
	return rotation.NewToken(answer.Status.Token), answer.Status.ExpirationTimestamp.Time, nil
}

// explainMint makes an error of request one of Mint.
func explainMint(r rotation.Request, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("requesting a token of ServiceAccount %s/%s: %w", r.Namespace, r.ServiceAccount, markDelay(markCatchingUp(explain(err))))
}

// Mint makes one TokenRequest, as Minter does. It does not wait for the client's
// rate limit: see rotation.Pace.
func (c *Client) Mint(ctx context.Context, r rotation.Request, accountUID string) (rotation.Token, time.Time, error) {
	token, expiration, err := Minter{Core: c.tokens}.request(ctx, r, accountUID)
	c.reportRights(err)
	return token, expiration, explainMint(r, err)
}
