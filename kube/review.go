package kube

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/token-projector/token-projector/rotation"
)

// ReviewToken asks the API server, as whoever the kubeconfig says, what it
// thinks of a token: is it accepted for one of these audiences, or for the API
// server's own if there are none, and whose is it? It needs the right to
// create tokenreviews. A token that is refused is no error.
func ReviewToken(ctx context.Context, kubeconfig string, token rotation.Token, audiences []string) (authenticationv1.TokenReviewStatus, error) {
	c, err := newClient(Options{Kubeconfig: kubeconfig})
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, explain(err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token.Reveal(), Audiences: audiences},
	}
	var answer authenticationv1.TokenReview
	if err := c.authn.Post().Resource("tokenreviews").Body(review).Do(ctx).Into(&answer); err != nil {
		return authenticationv1.TokenReviewStatus{}, fmt.Errorf("asking for a TokenReview: %w", explain(err))
	}
	return answer.Status, nil
}
