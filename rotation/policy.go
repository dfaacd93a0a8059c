package rotation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

// Spread says how the due times of many tokens are laid out.
type Spread string

// The two spreads.
const (
	// SpreadPhase gives each token a fixed phase, so that tokens minted
	// together are evenly spread from their next rotation on.
	SpreadPhase Spread = "phase"
	// SpreadNone makes every token due at exactly the end of its period.
	SpreadNone Spread = "none"
)

// Policy says when a token is due. It is a value; use DefaultPolicy and change
// fields. The zero Policy is not valid.
type Policy struct {
	// Fraction of its lifetime after which a token is due at the latest, from
	// 0.1 to less than 1. The kubelet's is 0.8.
	Fraction float64
	// MaxAge is the age at which a token is due at the latest, whatever its
	// lifetime. The kubelet's is 24 h.
	MaxAge time.Duration
	// Spread lays out the due times of many tokens.
	Spread Spread
}

// DefaultPolicy is the kubelet's rule (pkg/kubelet/token/token_manager.go),
// 80% of the lifetime or 24 h, with phases in the place of its 10 s of jitter.
func DefaultPolicy() Policy {
	return Policy{Fraction: 0.8, MaxAge: 24 * time.Hour, Spread: SpreadPhase}
}

// Validate says what is wrong with p.
func (p Policy) Validate() error {
	switch {
	case !(p.Fraction >= 0.1 && p.Fraction < 1): // so that NaN fails too
		return fmt.Errorf("rotation fraction %v: want at least 0.1 and less than 1", p.Fraction)
	case p.MaxAge < time.Second:
		return fmt.Errorf("rotation max age %v: want at least 1s", p.MaxAge)
	case p.Spread != SpreadPhase && p.Spread != SpreadNone:
		return fmt.Errorf("rotation spread %q: want %q or %q", p.Spread, SpreadPhase, SpreadNone)
	}
	return nil
}

// Period is the age at which a token of this lifetime is due at the latest.
func (p Policy) Period(lifetime time.Duration) time.Duration {
	return min(time.Duration(p.Fraction*float64(lifetime)), p.MaxAge)
}

// earliest is the part of a period before which a fresh token is never due. An
// eighth of 80% is 10% of the lifetime.
const earliest = 8

// Due is when the token g, which answers r, is to be replaced, on this
// machine's clock. It is a pure function, so a token that is read back after a
// restart is due when it was due before.
//
// With SpreadPhase:
//  1. The period P is 80% of the lifetime, or 24 h if that is less.
//  2. The request has a phase, a hash of itself modulo P. Its instants are the
//     moments phase, phase+P, phase+2P and so on.
//  3. The token is due at the last instant that is not later than P after it
//     was received.
//  4. If that comes within P/8, the token has just missed its instant: it is
//     due once at another moment between P/8 and P, drawn from its own id.
//
// So a token comes early once, seldom twice, and from then on exactly P after
// the rotation before. See docs/decisions/0002-phase-aligned-rotation.md.
func (p Policy) Due(r Request, g Grant) time.Time {
	period := p.Period(g.Lifetime) // 1
	if p.Spread == SpreadNone || period < earliest {
		return g.Received.Add(period)
	}
	phase := hash(r.Namespace, r.Pod.UID, r.ServiceAccount, r.Audience, strconv.FormatInt(int64(r.Lifetime), 10)) // 2
	last := g.Received.Add(period).UnixNano()
	past := modulo(last-int64(phase%uint64(period)), int64(period))
	age := period - time.Duration(past) // 3
	if age < period/earliest {          // 4
		age = period/earliest + time.Duration(hash(g.Claims.ID, r.Pod.UID)%uint64(period-period/earliest))
	}
	return g.Received.Add(age)
}

// modulo is the remainder that is never negative.
func modulo(a, b int64) int64 { return ((a % b) + b) % b }

// hash spreads its words evenly over 64 bits, the same in every process.
func hash(words ...string) uint64 {
	h := sha256.New()
	for _, w := range words {
		// The length keeps ("ab", "c") apart from ("a", "bc").
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(w))))
		_, _ = h.Write([]byte(w))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}
