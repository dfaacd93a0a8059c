package rotation

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// TestFleet simulates the load that many nodes' tokens put on the API server:
// 500,000 tokens of 3607 s that were minted within 10 s, as after an outage or
// a big rollout, and the peak of requests per second over their mean in the
// periods that follow. It compares our rule with 10% of jitter and with the
// kubelet's 10 s.
func TestFleet(t *testing.T) {
	const (
		tokens   = 500_000
		periods  = 3
		lifetime = 3607 * time.Second
	)
	policy := DefaultPolicy()
	plain := Policy{Fraction: policy.Fraction, MaxAge: policy.MaxAge, Spread: SpreadNone}
	period := policy.Period(lifetime)
	rng := rand.New(rand.NewPCG(1, 2))
	start := time.Unix(1_800_000_000, 0)

	rules := []struct {
		name string
		due  func(Request, Grant) time.Time
		// ok says what must hold of each period's peak over mean.
		ok func(peakOverMean float64) bool
	}{
		{"phase", policy.Due, func(v float64) bool { return v < 2 }},
		{"jitter10", func(r Request, g Grant) time.Time {
			age := plain.Due(r, g).Sub(g.Received)
			return g.Received.Add(age - time.Duration(rng.Float64()*float64(age)/10))
		}, func(v float64) bool { return v > 5 }},
		{"kubelet", func(r Request, g Grant) time.Time {
			return plain.Due(r, g).Add(-time.Duration(rng.Int64N(10)) * time.Second)
		}, func(v float64) bool { return v > 50 }},
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			counts := make([][]int, periods)
			for i := range counts {
				counts[i] = make([]int, period/time.Second+1)
			}
			for i := range tokens {
				r := Request{Pod: ObjectRef{UID: strconv.Itoa(i)}, Lifetime: lifetime}
				g := Grant{Received: start.Add(time.Duration(rng.Int64N(int64(10 * time.Second)))), Lifetime: lifetime}
				for n := 0; ; n++ {
					g.Claims.ID = strconv.Itoa(n) + "/" + r.Pod.UID
					g.Received = rule.due(r, g)
					at := g.Received.Sub(start)
					if at >= periods*period {
						break
					}
					counts[at/period][at%period/time.Second]++
				}
			}
			for i, seconds := range counts {
				v := peakOverMean(seconds[:period/time.Second]) // the last second is not whole
				fmt.Printf("RESULT fleet rule=%s period=%d peak_over_mean=%.2f\n", rule.name, i+1, v)
				if !rule.ok(v) {
					t.Errorf("period %d: peak over mean is %.2f, which is not what the rule is known for", i+1, v)
				}
			}
		})
	}
}

func peakOverMean(counts []int) float64 {
	var sum, peak int
	for _, c := range counts {
		sum += c
		peak = max(peak, c)
	}
	return float64(peak) * float64(len(counts)) / float64(sum)
}
