package kube

import (
	"net/http"
	"sync"
	"time"
)

// serverClock is the API server's clock, as the Date of its answers tells it
// (RFC 9110, section 6.6.1), to about a second. The zero value is not known.
type serverClock struct {
	mu sync.Mutex
	// The server's time less the local one lay between low and high, at the
	// local time at. Local times are differences to base, which nobody sets.
	known     bool
	low, high time.Duration
	at        time.Time
	base      time.Time
	jumped    func() // told when the difference became another
	told      time.Time
}

const (
	// tellable is the smallest change of the difference that is told.
	tellable = 5 * time.Second
	// drift is how far two clocks may come apart within narrowFor.
	drift     = 500 * time.Millisecond
	narrowFor = 10 * time.Minute
	// tellEvery bounds how often a change is told: of several API servers behind
	// one address, each may have a clock of its own.
	tellEvery = time.Minute
)

// note takes note of an answer that was sent for at one moment and came at
// another.
func (c *serverClock) note(sent, received time.Time, date string) {
	at, err := http.ParseTime(date)
	if err != nil {
		return // a proxy may leave it out
	}
	c.mu.Lock()
	if c.base.IsZero() {
		c.base = sent
	}
	// The server cuts its time to a second.
	server := at.Sub(c.base)
	low, high := server-received.Sub(c.base), server+time.Second-sent.Sub(c.base)
	before, known := c.differenceLocked(), c.known
	switch {
	case known && low <= c.high && high >= c.low:
		if received.Sub(c.at) > narrowFor { // no two clocks run at the same rate
			c.low, c.high, c.at = c.low-drift, c.high+drift, received
		}
		c.low, c.high = max(low, c.low), min(high, c.high)
	default:
		c.low, c.high, c.at, c.known = low, high, received, true
	}
	jumped := c.jumped
	tell := known && (c.differenceLocked()-before).Abs() >= tellable && (c.told.IsZero() || received.Sub(c.told) >= tellEvery)
	if tell {
		c.told = received
	}
	c.mu.Unlock()
	if tell && jumped != nil {
		jumped()
	}
}

func (c *serverClock) differenceLocked() time.Duration { return (c.low + c.high) / 2 }

// now is the API server's time, and whether it is known.
func (c *serverClock) now() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return time.Time{}, false
	}
	return c.base.Add(time.Since(c.base) + c.differenceLocked()), true
}

// onJump has f called when the difference becomes another.
func (c *serverClock) onJump(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jumped = f
}

// forget is for when the machine slept: the clock of differences did not count
// that.
func (c *serverClock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.base = false, time.Time{}
}
