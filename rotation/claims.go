package rotation

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// ObjectRef names an object that a token is bound to or issued for.
type ObjectRef struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// Claims are what a service-account token says of itself. They are read, not
// verified: use them for a token that the API server just handed over or that
// lies in a file of one's own, never to decide whether to trust a caller.
//
// Times are zero where the claim is absent. The names follow
// pkg/serviceaccount/claims.go of Kubernetes.
type Claims struct {
	Issuer    string
	Subject   string
	ID        string // jti
	Audiences []string
	IssuedAt  time.Time
	ExpiresAt time.Time
	// WarnAfter is the real deadline of a token whose ExpiresAt the API server
	// extended to a year; zero for every other token.
	WarnAfter      time.Time
	Namespace      string
	ServiceAccount ObjectRef
	Pod            ObjectRef
	Node           ObjectRef
	Secret         ObjectRef
}

// errNotJWT does not name the input: it may be a token all the same.
var errNotJWT = errors.New("not a JSON web token: want three parts separated by dots")

// ParseClaims reads the claims of a JSON web token without verifying it. Its
// errors never contain any part of the input.
func ParseClaims(token string) (Claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Claims{}, errNotJWT
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Claims{}, errors.New("not a JSON web token: the second part is not base64url")
	}
	var raw rawClaims
	if err := json.Unmarshal(body, &raw); err != nil {
		// The decoder's own message may quote a value, so it is not wrapped.
		return Claims{}, errors.New("not a service-account token: the claims are not the JSON that was expected")
	}
	return raw.claims(), nil
}

// Lifetime is the span between issue and deadline, both on the server's clock.
// WarnAfter wins over ExpiresAt. It is zero if a claim that it needs is absent.
func (c Claims) Lifetime() time.Duration {
	deadline := c.ExpiresAt
	if !c.WarnAfter.IsZero() {
		deadline = c.WarnAfter
	}
	if c.IssuedAt.IsZero() || deadline.IsZero() {
		return 0
	}
	return deadline.Sub(c.IssuedAt)
}

// HasAudience says whether audience is among the token's.
func (c Claims) HasAudience(audience string) bool {
	for _, a := range c.Audiences {
		if a == audience {
			return true
		}
	}
	return false
}

type rawClaims struct {
	Issuer     string      `json:"iss"`
	Subject    string      `json:"sub"`
	ID         string      `json:"jti"`
	Audience   audiences   `json:"aud"`
	IssuedAt   numericDate `json:"iat"`
	ExpiresAt  numericDate `json:"exp"`
	Kubernetes struct {
		Namespace      string      `json:"namespace"`
		ServiceAccount ObjectRef   `json:"serviceaccount"`
		Pod            ObjectRef   `json:"pod"`
		Node           ObjectRef   `json:"node"`
		Secret         ObjectRef   `json:"secret"`
		WarnAfter      numericDate `json:"warnafter"`
	} `json:"kubernetes.io"`
}

func (r rawClaims) claims() Claims {
	return Claims{
		Issuer:         r.Issuer,
		Subject:        r.Subject,
		ID:             r.ID,
		Audiences:      r.Audience,
		IssuedAt:       r.IssuedAt.Time,
		ExpiresAt:      r.ExpiresAt.Time,
		WarnAfter:      r.Kubernetes.WarnAfter.Time,
		Namespace:      r.Kubernetes.Namespace,
		ServiceAccount: r.Kubernetes.ServiceAccount,
		Pod:            r.Kubernetes.Pod,
		Node:           r.Kubernetes.Node,
		Secret:         r.Kubernetes.Secret,
	}
}

// numericDate is RFC 7519's: seconds since 1970, possibly with a fraction.
type numericDate struct{ time.Time }

// maxNumericDate is the last second of the year 9999. Later dates are not of
// this world and would overflow differences of times.
const maxNumericDate = 253402300799

func (d *numericDate) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds > maxNumericDate {
		return fmt.Errorf("date out of range")
	}
	whole, fraction := math.Modf(seconds)
	d.Time = time.Unix(int64(whole), int64(fraction*1e9))
	return nil
}

// audiences is a list, or a single string (RFC 7519, section 4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSON(b []byte) error {
	var list []string
	if err := json.Unmarshal(b, &list); err == nil {
		*a = list
		return nil
	}
	var one string
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*a = audiences{one}
	return nil
}
