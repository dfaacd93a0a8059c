package rotation_test

import (
	"strings"
	"testing"
	"time"

	. "github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

func TestParseClaims(t *testing.T) {
	c, err := ParseClaims(rotationtest.JWT(`{
		"iss": "https://issuer", "sub": "system:serviceaccount:ns:sa", "jti": "id-1", "aud": ["a", "b"],
		"iat": 1800000000, "nbf": 1800000000, "exp": 1831536000,
		"kubernetes.io": {
			"namespace": "ns", "serviceaccount": {"name": "sa", "uid": "sa-uid"},
			"pod": {"name": "p", "uid": "pod-uid"}, "node": {"name": "n", "uid": "node-uid"},
			"warnafter": 1800003607
		}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Lifetime() != 3607*time.Second {
		t.Errorf("Lifetime() = %v, want that of warnafter, 3607s", c.Lifetime())
	}
	if !c.HasAudience("b") || c.HasAudience("c") {
		t.Errorf("HasAudience is wrong for %q", c.Audiences)
	}
	if c.Pod.UID != "pod-uid" || c.ServiceAccount.UID != "sa-uid" || c.Node.Name != "n" || c.ID != "id-1" {
		t.Errorf("claims are not all there: %+v", c)
	}
}

func TestParseClaimsOddForms(t *testing.T) {
	tests := []struct {
		name, claims string
		lifetime     time.Duration
		audiences    int
	}{
		{"no warnafter", `{"iat": 100, "exp": 700}`, 600 * time.Second, 0},
		{"one audience as a string", `{"iat": 100, "exp": 700, "aud": "vault"}`, 600 * time.Second, 1},
		{"fractions", `{"iat": 100.5, "exp": 700.5}`, 600 * time.Second, 0},
		{"null dates", `{"iat": null, "exp": 700}`, 0, 0},
		{"no dates", `{}`, 0, 0},
		{"expires before it was issued", `{"iat": 700, "exp": 100}`, -600 * time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseClaims(rotationtest.JWT(tt.claims))
			if err != nil {
				t.Fatal(err)
			}
			if c.Lifetime() != tt.lifetime || len(c.Audiences) != tt.audiences {
				t.Errorf("lifetime %v, audiences %q", c.Lifetime(), c.Audiences)
			}
		})
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add("")
	f.Add("a.b.c")
	f.Add(rotationtest.JWT(`{"iat": 1e308, "exp": -1}`))
	f.Add(rotationtest.JWT(`{"aud": {"secretvalue": 1}}`))
	f.Add(rotationtest.JWT(`{"iat": "secretvalue"}`))
	f.Fuzz(func(t *testing.T, token string) {
		_, err := ParseClaims(token)
		if err == nil {
			return
		}
		// An error must not carry a piece of what may be a credential.
		for part := range strings.SplitSeq(token, ".") {
			if len(part) >= 20 && strings.Contains(err.Error(), part) {
				t.Errorf("error shows the input: %v", err)
			}
		}
		if strings.Contains(err.Error(), "secretvalue") {
			t.Errorf("error shows a claim: %v", err)
		}
	})
}

func TestNewGrant(t *testing.T) {
	issued := time.Unix(1_800_000_000, 0)
	extended := `{"iat": 1800000000, "exp": 1831536000, "kubernetes.io": {"warnafter": 1800003607}}`
	plain := `{"iat": 1800000000, "exp": 1800003600}`
	tests := []struct {
		name, claims string
		expiration   time.Time
		want         time.Duration // 0: an error
	}{
		{"extended, as minted", extended, issued.Add(3607 * time.Second), 3607 * time.Second},
		{"extended, as read back", extended, time.Time{}, 3607 * time.Second},
		{"status a second before the claims", plain, issued.Add(3599 * time.Second), 3600 * time.Second},
		{"status much earlier than the claims", plain, issued.Add(600 * time.Second), 600 * time.Second},
		{"status later than the claims", plain, issued.Add(time.Hour * 24), 3600 * time.Second},
		{"only the status says when", `{"iat": 1800000000}`, issued.Add(600 * time.Second), 600 * time.Second},
		{"status in the past", plain, issued.Add(-time.Hour), 0},
		{"a tenth of a second", `{"iat": 1800000000.9, "exp": 1800000001}`, time.Time{}, 0},
		{"nothing says when", `{"iat": 1800000000}`, time.Time{}, 0},
		{"not a token", "", time.Time{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := NewGrant(NewToken(rotationtest.JWT(tt.claims)), tt.expiration, time.Now())
			if (err != nil) != (tt.want == 0) {
				t.Fatalf("error %v, want lifetime %v", err, tt.want)
			}
			if g.Lifetime != tt.want {
				t.Errorf("lifetime %v, want %v", g.Lifetime, tt.want)
			}
		})
	}
}

func TestGrantCheck(t *testing.T) {
	r := Request{Namespace: "ns", ServiceAccount: "sa", Pod: ObjectRef{Name: "p", UID: "u"}, Audience: "vault"}
	valid := Claims{
		Namespace: "ns", ServiceAccount: ObjectRef{Name: "sa"}, Pod: ObjectRef{Name: "p", UID: "u"},
		Audiences: []string{"vault"},
	}
	tests := []struct {
		name   string
		mutate func(*Claims)
		ok     bool
	}{
		{"the same", func(*Claims) {}, true},
		{"without what an external signer may leave out", func(c *Claims) { c.Namespace, c.ServiceAccount = "", ObjectRef{} }, true},
		{"other namespace", func(c *Claims) { c.Namespace = "x" }, false},
		{"other ServiceAccount", func(c *Claims) { c.ServiceAccount.Name = "x" }, false},
		{"other Pod", func(c *Claims) { c.Pod.UID = "x" }, false},
		{"unbound", func(c *Claims) { c.Pod = ObjectRef{} }, false},
		{"other audience", func(c *Claims) { c.Audiences = []string{"x"} }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := valid
			tt.mutate(&c)
			if err := (Grant{Claims: c}).Check(r); (err == nil) != tt.ok {
				t.Errorf("Check() = %v, want ok %v", err, tt.ok)
			}
		})
	}
}
