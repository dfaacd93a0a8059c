package projector

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

type asking time.Duration

func (asking) Error() string               { return "too many requests" }
func (a asking) RetryAfter() time.Duration { return time.Duration(a) }

// TestWaits: how long a volume waits after so many failures.
func TestWaits(t *testing.T) {
	for _, tt := range []struct {
		name     string
		err      error
		failures int
		left     time.Duration // of the token; 0: there is none
		from, to time.Duration
	}{
		{"catching up", fmt.Errorf("%w: x", ErrCatchingUp), 1, 0, time.Millisecond, 2 * time.Millisecond},
		{"still catching up", ErrCatchingUp, 5, 0, 16 * time.Millisecond, 32 * time.Millisecond},
		{"any failure", errAway, 1, 0, 250 * time.Millisecond, 500 * time.Millisecond},
		{"nothing published, for long", errAway, 50, 0, 15 * time.Second, 30 * time.Second},
		{"expired, for long", errAway, 50, -time.Hour, 15 * time.Second, 30 * time.Second},
		{"valid, for long", errAway, 50, time.Hour, time.Minute, 2 * time.Minute},
		{"valid, not for long", errAway, 50, 40 * time.Second, 5 * time.Second, 10 * time.Second},
		{"about to lapse", errAway, 50, 2 * time.Second, time.Second / 2, time.Second},
		{"as the server asks", errors.Join(errAway, asking(10*time.Second)), 1, time.Hour, 10 * time.Second, 10 * time.Second},
		{"not past the deadline", asking(time.Hour), 1, 12 * time.Minute, 3 * time.Minute, 3 * time.Minute},
		{"not for ever", asking(time.Hour), 1, 0, 30 * time.Second, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, key := newBackoff(), Key{Volume: "v"}
				deadline := time.Time{}
				if tt.left != 0 {
					deadline = time.Now().Add(tt.left)
				}
				var d time.Duration
				for range tt.failures {
					d = b.wait(key, tt.err, deadline)
				}
				if d < tt.from || d > tt.to {
					t.Errorf("waits %v, want %v to %v", d, tt.from, tt.to)
				}
				b.forget(key)
				if d := b.wait(key, ErrCatchingUp, time.Time{}); d > catchUpRetry {
					t.Errorf("after a success waits %v", d)
				}
			})
		})
	}
}
