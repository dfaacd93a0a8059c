package inspect

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Signature is the result of an offline verification.
type Signature struct {
	Valid     bool   `json:"valid"`
	KeyID     string `json:"keyID,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	Reason    string `json:"reason,omitempty"` // why it is not valid
}

// algorithms that the API server signs with (pkg/serviceaccount/jwt.go), and
// that an external signer may use (KEP-740).
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512}

// VerifySignature checks a token's signature against a JSON web key set, as
// the API server serves it at /openid/v1/jwks. A signature says nothing about
// whether the Pod still exists. The error is about the key set, and never
// about the token.
func VerifySignature(text string, jwks []byte) (*Signature, error) {
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &keys); err != nil || len(keys.Keys) == 0 {
		return nil, errors.Join(errors.New("not a JSON web key set with keys in it"), err)
	}
	signed, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return &Signature{Reason: "not one signature of an algorithm that Kubernetes uses"}, nil
	}
	header := signed.Signatures[0].Header
	s := &Signature{KeyID: header.KeyID, Algorithm: header.Algorithm}
	candidates := keys.Key(header.KeyID)
	if len(candidates) == 0 {
		s.Reason = fmt.Sprintf("no key in the set has the id %q: signed by another cluster, or before its keys were changed", header.KeyID)
		return s, nil
	}
	for _, key := range candidates {
		if _, err := signed.Verify(key.Key); err == nil {
			s.Valid = true
			return s, nil
		}
	}
	s.Reason = "the signature does not match the key: the token was changed"
	return s, nil
}
