package rotation

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// randomToken draws a request and a grant such as a fleet has.
func randomToken(rng *rand.Rand) (Request, Grant) {
	lifetime := time.Duration(600+rng.Int64N(200_000)) * time.Second
	r := Request{
		Namespace: "ns", ServiceAccount: "default",
		Pod:      ObjectRef{Name: "p", UID: fmt.Sprintf("%016x", rng.Uint64())},
		Audience: []string{"", "vault", "sts"}[rng.IntN(3)],
		Lifetime: lifetime,
	}
	received := time.Unix(rng.Int64N(4e9), rng.Int64N(1e9))
	return r, Grant{Received: received, Lifetime: lifetime, Claims: Claims{ID: fmt.Sprintf("%016x", rng.Uint64())}}
}

// testToken is an unsigned token; rotationtest can't be imported from within.
func testToken(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".e30"
}

func TestDueIsNeverLateNorTooEarly(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	policy := DefaultPolicy()
	for range 100_000 {
		r, g := randomToken(rng)
		age := policy.Due(r, g).Sub(g.Received)
		latest := min(g.Lifetime*8/10, 24*time.Hour)
		if age > latest {
			t.Fatalf("lifetime %v: due %v after it was received, later than %v", g.Lifetime, age, latest)
		}
		// 10% of the lifetime, or an eighth of 24 h where that rule is the one.
		if age < latest/8 {
			t.Fatalf("lifetime %v: due %v after it was received, earlier than %v", g.Lifetime, age, latest/8)
		}
	}
}

func TestDueIsTheSameAfterARestart(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	policy := DefaultPolicy()
	for range 10_000 {
		r, g := randomToken(rng)
		// The status is up to a second before the claims, and a new process has
		// only those and the file's time.
		issued := g.Received.Add(-time.Duration(rng.Int64N(int64(time.Minute)))).Truncate(time.Second)
		expires := issued.Add(g.Lifetime)
		token := NewToken(testToken(fmt.Sprintf(`{"jti": %q, "iat": %d, "exp": %d}`, g.Claims.ID, issued.Unix(), expires.Unix())))
		minted, err := NewGrant(token, expires.Add(-time.Duration(rng.Int64N(2))*time.Second), g.Received)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ReadGrant(token, time.Unix(0, g.Received.UnixNano()).UTC())
		if err != nil {
			t.Fatal(err)
		}
		if a, b := policy.Due(r, minted), policy.Due(r, read); !a.Equal(b) {
			t.Fatalf("due at %v, after a restart at %v", a, b)
		}
	}
}

// settled is after how many rotations a token is on its phase for certain: each
// one misses with a chance below 1/8.
const settled = 12

// rotate lets the answer come a moment after the due time, as it does.
func rotate(rng *rand.Rand, due time.Time, g Grant) Grant {
	g.Received = due.Add(time.Duration(rng.Int64N(int64(50 * time.Millisecond))))
	g.Claims.ID = fmt.Sprintf("%016x", rng.Uint64())
	return g
}

func TestDueSettlesAtOncePerPeriod(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	policy := DefaultPolicy()
	for range 1_000 {
		r, g := randomToken(rng)
		period := policy.Period(g.Lifetime)
		var last time.Time
		for i := range settled + 5 {
			due := policy.Due(r, g)
			if i > settled && due.Sub(last) != period {
				t.Fatalf("rotation %d came %v after the one before, want the period %v", i, due.Sub(last), period)
			}
			last = due
			g = rotate(rng, due, g)
		}
	}
}

func TestDueIsUniform(t *testing.T) {
	const tokens, bins = 100_000, 100
	rng := rand.New(rand.NewPCG(5, 5))
	policy := DefaultPolicy()
	start := time.Unix(1_800_000_000, 0)
	lifetime := 3607 * time.Second
	period := policy.Period(lifetime)
	var counts [bins]float64
	for i := range tokens {
		r := Request{Namespace: "ns", ServiceAccount: "default", Pod: ObjectRef{UID: fmt.Sprint(i)}, Lifetime: lifetime}
		g := Grant{Received: start, Lifetime: lifetime, Claims: Claims{ID: fmt.Sprint("id", i)}}
		for range settled {
			g = rotate(rng, policy.Due(r, g), g)
		}
		at := policy.Due(r, g).Sub(start) % period
		counts[int(at*bins/period)]++
	}
	// Pearson's chi-squared against the uniform distribution; with 99 degrees
	// of freedom it is above 149 in one of 1,000 uniform draws.
	var chi2 float64
	want := float64(tokens) / bins
	for _, c := range counts {
		chi2 += (c - want) * (c - want) / want
	}
	if chi2 > 149 {
		t.Errorf("due times are not uniform over the period: chi-squared %.1f, want at most 149", chi2)
	}
}

func TestSpreadNoneIsPlainFraction(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	policy := Policy{Fraction: 0.5, MaxAge: time.Hour, Spread: SpreadNone}
	for range 1_000 {
		r, g := randomToken(rng)
		if got, want := policy.Due(r, g).Sub(g.Received), min(g.Lifetime/2, time.Hour); got != want {
			t.Fatalf("due after %v, want %v", got, want)
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	tests := []struct {
		name   string
		mutate func(*Policy)
		valid  bool
	}{
		{"default", func(*Policy) {}, true},
		{"no spread", func(p *Policy) { p.Spread = SpreadNone }, true},
		{"fraction 0", func(p *Policy) { p.Fraction = 0 }, false},
		{"fraction 1", func(p *Policy) { p.Fraction = 1 }, false},
		{"fraction NaN", func(p *Policy) { p.Fraction = math.NaN() }, false},
		{"max age 0", func(p *Policy) { p.MaxAge = 0 }, false},
		{"unknown spread", func(p *Policy) { p.Spread = "jitter" }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := DefaultPolicy()
			tt.mutate(&p)
			if err := p.Validate(); (err == nil) != tt.valid {
				t.Errorf("Validate() = %v, want valid %v", err, tt.valid)
			}
		})
	}
}
