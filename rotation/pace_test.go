package rotation

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func held(deadline time.Duration) Grant {
	return Grant{Token: NewToken("t"), Received: time.Now(), Lifetime: deadline}
}

// TestPaceServesTheEarliestDeadlineFirst, at its rate, and first tokens beside.
func TestPaceServesTheEarliestDeadlineFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPace(10, 1)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		must := func(g Grant) {
			if err := p.wait(t.Context(), g); err != nil {
				t.Error(err)
			}
		}
		must(held(time.Hour)) // the burst
		var mu sync.Mutex
		var order []time.Duration
		var wg sync.WaitGroup
		for _, deadline := range []time.Duration{3 * time.Hour, -time.Hour, time.Minute} {
			wg.Go(func() {
				must(held(deadline))
				mu.Lock()
				defer mu.Unlock()
				order = append(order, deadline)
			})
			synctest.Wait()
		}
		must(Grant{})
		if took := time.Since(start); took != 0 {
			t.Errorf("a first token waited %v for replacements", took)
		}
		wg.Wait()
		if took := time.Since(start); took < 299*time.Millisecond || took > 301*time.Millisecond {
			t.Errorf("three took %v at ten a second, want 300ms", took)
		}
		if order[0] != -time.Hour || order[1] != time.Minute || order[2] != 3*time.Hour {
			t.Errorf("served by deadline in the order %v", order)
		}
	})
}

// TestPaceKeepsFewWaiting: one more with a valid token is told when to come back,
// one whose token has expired waits.
func TestPaceKeepsFewWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPace(10, 1)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wait := func(left time.Duration) {
			wg.Go(func() {
				if err := p.wait(t.Context(), held(left)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 1 + maxWaiting {
			wait(time.Hour)
		}
		var asks interface{ RetryAfter() time.Duration }
		err = p.wait(t.Context(), held(time.Hour))
		if !errors.As(err, &asks) || asks.RetryAfter() != 1600*time.Millisecond {
			t.Errorf("wait() = %v, want an error that says when", err)
		}
		wait(-time.Hour)
		wg.Wait()
	})
}

func TestPaceGivesUpWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPace(1, 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := p.wait(ctx, Grant{}); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(ctx, Grant{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait() = %v, want the context's end", err)
		}
		start := time.Now()
		if err := p.wait(t.Context(), Grant{}); err != nil || time.Since(start) > time.Second {
			t.Errorf("who gave up kept its place: %v after %v", err, time.Since(start))
		}
	})
}

func TestNewPaceRefusesNonsense(t *testing.T) {
	for _, perSecond := range []float64{0, -1} {
		if _, err := NewPace(perSecond, 1); err == nil {
			t.Errorf("took %v a second", perSecond)
		}
	}
	if _, err := NewPace(1, 0); err == nil {
		t.Error("took a burst of 0")
	}
}
