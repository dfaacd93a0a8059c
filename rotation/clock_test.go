package rotation_test

import (
	"testing"
	"testing/synctest"
	"time"

	. "github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// serverClock is the API server's clock, so far ahead of this one.
type serverClock struct {
	ahead time.Duration
	known bool
}

func (c *serverClock) now() (time.Time, bool) { return time.Now().Add(c.ahead), c.known }

func newClockManager(t *testing.T, c *serverClock) (*Manager, *rotationtest.Minter) {
	t.Helper()
	f := &rotationtest.Minter{}
	f.Behave(rotationtest.Behaviour{Skew: c.ahead})
	m, err := NewManager(f, Policy{Fraction: 0.8, MaxAge: 24 * time.Hour, Spread: SpreadNone}, WithServerClock(c.now))
	if err != nil {
		t.Fatal(err)
	}
	return m, f
}

// TestAdoptByTheServersClock: where the node's clock was set since the file was
// written, a token's own times show its age.
func TestAdoptByTheServersClock(t *testing.T) {
	tests := []struct {
		name      string
		ahead     time.Duration // the server's clock, of this one
		file, iat time.Duration // ages by this clock and by the server's
		age       time.Duration // -1: not adopted
	}{
		{"nothing was set", 0, 10 * time.Minute, 10*time.Minute + time.Second, 10 * time.Minute},
		{"a node an hour behind", time.Hour, 10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"a node an hour ahead", -time.Hour, 10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"set back by an hour: the file is from the future", 0, -50 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"set back by 5 minutes: the file looks younger", 0, 5 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"set forward by 20 minutes: the greater age counts", 0, 30 * time.Minute, 10 * time.Minute, 30 * time.Minute},
		{"the server was set back: the token is from the future", 0, 10 * time.Minute, -2 * time.Minute, -1},
		{"a little from the future, as the server accepts", 0, 0, -30 * time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &serverClock{ahead: tt.ahead, known: true}
				m, f := newClockManager(t, c)
				now := time.Now()
				serverNow, _ := c.now()
				g := Grant{
					Token: NewToken("t"), Received: now.Add(-tt.file), Lifetime: time.Hour,
					Claims: Claims{ID: "old", Pod: testRequest.Pod, IssuedAt: serverNow.Add(-tt.iat)},
				}
				if err := m.Adopt(testRequest, g); (err == nil) != (tt.age >= 0) {
					t.Fatalf("Adopt() = %v", err)
				}
				if tt.age < 0 {
					return
				}
				_, due, err := m.Get(t.Context(), testRequest)
				if want := now.Add(48*time.Minute - tt.age); err != nil || f.Calls() != 0 || !due.Equal(want) {
					t.Errorf("due at %v after %d mints, %v; want %v", due, f.Calls(), err, want)
				}
			})
		})
	}
}

// TestAdoptSpreadsWhatIsOverdue over the span by which it is late, and over a
// quarter of what is left.
func TestAdoptSpreadsWhatIsOverdue(t *testing.T) {
	for _, tt := range []struct{ age, latest time.Duration }{
		{48*time.Minute + 10*time.Second, 10 * time.Second},
		{56 * time.Minute, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, f := newClockManager(t, &serverClock{})
			moments := map[time.Duration]bool{}
			for _, audience := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
				r := testRequest
				r.Audience = audience
				g := Grant{Token: NewToken("t"), Received: time.Now().Add(-tt.age), Lifetime: time.Hour,
					Claims: Claims{Pod: r.Pod, Audiences: []string{audience}}}
				if err := m.Adopt(r, g); err != nil {
					t.Fatal(err)
				}
				_, due, err := m.Get(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				in := time.Until(due)
				moments[in] = true
				if in < 0 || in > tt.latest {
					t.Errorf("a token of age %v is due in %v, want at most %v", tt.age, in, tt.latest)
				}
			}
			if len(moments) < 8 || f.Calls() != 0 {
				t.Errorf("%d moments for 8 tokens, %d mints", len(moments), f.Calls())
			}
		})
	}
}

// TestClockChanged: sleep makes tokens older; what it makes overdue is spread,
// what it makes expire is due at once.
func TestClockChanged(t *testing.T) {
	for _, tt := range []struct {
		name        string
		slept       time.Duration
		valid       bool
		dueNotAfter time.Duration
	}{
		{"only set", 0, true, 48 * time.Minute},
		{"a nap", 10 * time.Minute, true, 38 * time.Minute},
		{"until it is overdue", 50 * time.Minute, true, 2 * time.Minute},
		{"for hours", 5 * time.Hour, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := newClockManager(t, &serverClock{})
				told := 0
				m.OnDue(func() { told++ })
				if _, _, err := m.Get(t.Context(), testRequest); err != nil {
					t.Fatal(err)
				}
				m.ClockChanged(tt.slept)
				if told != 1 {
					t.Errorf("OnDue was called %d times, want once", told)
				}
				if _, expired, _ := m.Held(); (expired == 0) != tt.valid {
					t.Errorf("%d expired, want the token to be valid: %v", expired, tt.valid)
				}
				_, due, err := m.Get(t.Context(), testRequest)
				if err != nil || (f.Calls() == 1) != tt.valid {
					t.Errorf("%d mints, %v", f.Calls(), err)
				}
				if in := time.Until(due); tt.valid && in > tt.dueNotAfter {
					t.Errorf("due in %v, want at most %v", in, tt.dueNotAfter)
				}
			})
		})
	}
}

// TestTokenFromTheFuture: when the API server's clock is set back, it refuses
// what it issued before; what is minted then is not asked about again at once.
func TestTokenFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &serverClock{known: true}
		m, f := newClockManager(t, c)
		get := func() string {
			g, _, err := m.Get(t.Context(), testRequest)
			if err != nil {
				t.Fatal(err)
			}
			return g.Claims.ID
		}
		get()
		time.Sleep(2 * time.Minute)
		c.ahead = -time.Hour
		if id := get(); id != "2" {
			t.Errorf("token %s, want a second one", id)
		}
		// The server's clock is another than its answers said: no storm.
		for range 100 {
			get()
		}
		if f.Calls() != 2 {
			t.Errorf("%d mints, want 2", f.Calls())
		}
	})
}

// TestServerClockChanged: what the API server takes for expired is.
func TestServerClockChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &serverClock{known: true}
		m, f := newClockManager(t, c)
		get := func() time.Time {
			_, due, err := m.Get(t.Context(), testRequest)
			if err != nil {
				t.Fatal(err)
			}
			return due
		}
		due := get()
		c.ahead = 20 * time.Minute
		m.ServerClockChanged()
		if now := get(); !now.Equal(due.Add(-20*time.Minute)) || f.Calls() != 1 {
			t.Errorf("due at %v after %d mints, want it 20 minutes before %v", now, f.Calls(), due)
		}
		c.ahead = 5 * time.Hour
		f.Behave(rotationtest.Behaviour{Skew: c.ahead})
		m.ServerClockChanged()
		if get(); f.Calls() != 2 {
			t.Errorf("%d mints, want a second: the first is expired for the server", f.Calls())
		}
	})
}

func TestRotateAllIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newClockManager(t, &serverClock{})
		for _, audience := range []string{"a", "b", "c"} {
			r := testRequest
			r.Audience = audience
			if _, _, err := m.Get(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if want := 3 / (48 * time.Minute).Seconds(); m.Demand() != want {
			t.Errorf("Demand() = %v, want %v", m.Demand(), want)
		}
		told := 0
		m.OnDue(func() { told++ })
		m.OnDue(func() { told++ })
		m.OnDue(func() { t.Error("it was stopped") })()
		tokens, within := m.RotateAll(ForcedPace)
		if tokens != 3 || within <= 0 || told != 2 {
			t.Fatalf("RotateAll() = %d, %v; told %d times", tokens, within, told)
		}
		count := func() int {
			for _, audience := range []string{"a", "b", "c"} {
				r := testRequest
				r.Audience = audience
				if _, _, err := m.Get(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			return f.Calls() - 3
		}
		if n := count(); n != 1 {
			t.Errorf("%d rotated at once, want one", n)
		}
		time.Sleep(within)
		for range 2 { // each once
			if n := count(); n != 3 {
				t.Errorf("%d rotated in the end, want 3", n)
			}
		}
	})
}
