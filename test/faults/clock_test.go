//go:build faults

package faults

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/token-projector/token-projector/test/proxy"
)

// TestClockStepped sets the machine's clock, which is the API server's too, ten
// minutes forward and back again, in the middle of rotations. A clock that is set
// forward makes all tokens expire at that moment, so for a stated time after each
// step the referee excuses them. No other test runs meanwhile.
func TestClockStepped(t *testing.T) {
	const step, excused = 10 * time.Minute, 5 * time.Second
	s := newScene(t, startCluster(t), proxy.Rules{Lifetime: shortLife})
	base, stepped := time.Now(), time.Duration(0)
	setClock := func(by time.Duration) {
		t.Helper()
		s.referee.Excuse(excused)
		stepped += by
		// By a clock that nobody sets, so that it is right again in the end.
		now := unix.NsecToTimespec(base.Add(time.Since(base) + stepped).UnixNano())
		switch err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); {
		case errors.Is(err, unix.EPERM):
			t.Skip("this machine's clock can't be set: it needs CAP_SYS_TIME")
		case err != nil:
			t.Fatalf("setting the clock: %v", err)
		}
	}
	setClock(0) // or skip, before anything is changed
	t.Cleanup(func() { setClock(-stepped) })
	for _, by := range []time.Duration{step, -step, -step, step} {
		s.left(10 * time.Second)
		setClock(by)
		s.left(excused)
		s.referee.ReviewAll(s.ctx)
	}
	for s.left(time.Second) {
	}
	s.judge("clock_stepped")
}
