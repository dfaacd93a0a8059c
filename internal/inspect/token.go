// Package inspect says what a service-account token or a volume of them is,
// without ever showing the token or its signature.
//
// It reads and reports; it changes nothing.
package inspect

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/token-projector/token-projector/rotation"
)

// Kind is what sort of service-account token it is.
type Kind string

// The kinds.
const (
	// KindBound: bound to a Pod, Node or Secret, and it expires.
	KindBound Kind = "bound"
	// KindExtended: bound, with an exp far ahead (a year, unless the API
	// server's maximum is less) and the real deadline in warnafter.
	KindExtended Kind = "extended"
	// KindUnbound: it expires, but no object's end revokes it.
	KindUnbound Kind = "unbound"
	// KindLegacy: from a Secret of type kubernetes.io/service-account-token;
	// it never expires.
	KindLegacy Kind = "legacy"
)

// Token is what a token says of itself. Times are zero where it does not say.
type Token struct {
	Kind           Kind                `json:"kind"`
	Issuer         string              `json:"issuer,omitempty"`
	Subject        string              `json:"subject,omitempty"`
	ID             string              `json:"id,omitempty"`
	Audiences      []string            `json:"audiences,omitempty"`
	Namespace      string              `json:"namespace,omitempty"`
	ServiceAccount rotation.ObjectRef  `json:"serviceAccount"`
	Pod            *rotation.ObjectRef `json:"pod,omitempty"`
	Node           *rotation.ObjectRef `json:"node,omitempty"`
	Secret         *rotation.ObjectRef `json:"secret,omitempty"`
	IssuedAt       time.Time           `json:"issuedAt,omitzero"`
	// LifetimeSeconds is from IssuedAt to Deadline: what was granted.
	LifetimeSeconds int64 `json:"lifetimeSeconds,omitempty"`
	AgeSeconds      int64 `json:"ageSeconds,omitempty"`
	// Deadline is when the token must be replaced by, and DeadlineClaim the
	// claim that says so: warnafter or exp.
	Deadline      time.Time `json:"deadline,omitzero"`
	DeadlineClaim string    `json:"deadlineClaim,omitempty"`
	ExpiresAt     time.Time `json:"expiresAt,omitzero"`
	// Expired: the API server refuses it. Overdue: it accepts it, and its deadline
	// has passed.
	Expired bool `json:"expired"`
	Overdue bool `json:"overdue"`
	// Due is when projectord with its default flags rotates it, if it was asked
	// for with the audience and the lifetime that it has. DueBy, 80% of its
	// lifetime or 24 h, is the latest that this may be.
	Due   time.Time `json:"due,omitzero"`
	DueBy time.Time `json:"dueBy,omitzero"`
	// Review and Signature are set if they were asked for.
	Review    *Review    `json:"review,omitempty"`
	Signature *Signature `json:"signature,omitempty"`
}

// errNoServiceAccount is for a token of something else.
var errNoServiceAccount = errors.New("a JSON web token, but not of a Kubernetes ServiceAccount: its subject is another")

const subjectPrefix = "system:serviceaccount:"

// ParseToken reads a token's claims as of now. received is the time of the
// token's file, from which its age counts; zero if it is not known. Errors
// never contain any part of the text.
func ParseToken(text string, received, now time.Time) (*Token, error) {
	claims, err := rotation.ParseClaims(text)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(claims.Subject, subjectPrefix) {
		return nil, errNoServiceAccount
	}
	t := &Token{
		Issuer: claims.Issuer, Subject: claims.Subject, ID: claims.ID, Audiences: claims.Audiences,
		Namespace: claims.Namespace, ServiceAccount: claims.ServiceAccount,
		Pod: ref(claims.Pod), Node: ref(claims.Node), Secret: ref(claims.Secret),
		IssuedAt: claims.IssuedAt, ExpiresAt: claims.ExpiresAt,
	}
	legacy := parseLegacy(text)
	switch {
	case legacy.Namespace != "":
		t.Kind = KindLegacy
		t.Namespace = legacy.Namespace
		t.ServiceAccount = rotation.ObjectRef{Name: legacy.Name, UID: legacy.UID}
		t.Secret = ref(rotation.ObjectRef{Name: legacy.Secret})
	case !claims.WarnAfter.IsZero():
		t.Kind = KindExtended
	case t.Pod != nil || t.Node != nil || t.Secret != nil:
		t.Kind = KindBound
	default:
		t.Kind = KindUnbound
	}
	if !t.IssuedAt.IsZero() {
		t.AgeSeconds = int64(now.Sub(t.IssuedAt) / time.Second)
	}
	switch {
	case !claims.WarnAfter.IsZero():
		t.Deadline, t.DeadlineClaim = claims.WarnAfter, "kubernetes.io.warnafter"
	case !claims.ExpiresAt.IsZero():
		t.Deadline, t.DeadlineClaim = claims.ExpiresAt, "exp"
	}
	t.LifetimeSeconds = int64(max(0, claims.Lifetime()) / time.Second)
	t.Expired = !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
	t.Overdue = !t.Expired && !t.Deadline.IsZero() && !now.Before(t.Deadline)
	if received.IsZero() {
		received = t.IssuedAt
	}
	t.setDue(claims, received)
	return t, nil
}

// setDue applies the default rule to what the token was probably asked for.
func (t *Token) setDue(claims rotation.Claims, received time.Time) {
	lifetime := claims.Lifetime()
	if lifetime <= 0 {
		return
	}
	request := rotation.Request{
		Namespace: claims.Namespace, ServiceAccount: claims.ServiceAccount.Name, Pod: claims.Pod, Lifetime: lifetime,
	}
	// The API server's own audience is its issuer, unless it is told otherwise;
	// it is asked for by naming none.
	if len(claims.Audiences) > 0 && claims.Audiences[0] != claims.Issuer {
		request.Audience = claims.Audiences[0]
	}
	policy := rotation.DefaultPolicy()
	t.Due = policy.Due(request, rotation.Grant{Claims: claims, Received: received, Lifetime: lifetime})
	t.DueBy = received.Add(policy.Period(lifetime))
}

func ref(o rotation.ObjectRef) *rotation.ObjectRef {
	if o == (rotation.ObjectRef{}) {
		return nil
	}
	return &o
}

// legacyClaims are flat, as the token controller writes them
// (pkg/serviceaccount/legacy.go).
type legacyClaims struct {
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	Name      string `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// parseLegacy reads them from a token that ParseClaims has taken.
func parseLegacy(text string) legacyClaims {
	var legacy legacyClaims
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err == nil {
		_ = json.Unmarshal(body, &legacy) // what is not there stays empty
	}
	return legacy
}

// IsTokenItself says whether a command's argument is a token, or a part of one,
// in the place of a file's name: such an argument must not be repeated.
func IsTokenItself(arg string) bool {
	_, err := rotation.ParseClaims(arg)
	return err == nil || strings.HasPrefix(arg, "eyJ")
}

// LooksLikeToken says whether a file's content might be a token, so that a
// volume's other files are left alone.
func LooksLikeToken(content []byte) bool {
	if len(content) < 20 || slices.Contains(content, '\n') {
		return false
	}
	_, err := rotation.ParseClaims(string(content))
	return err == nil
}
