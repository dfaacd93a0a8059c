package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

var (
	testRequest = Request{Namespace: "ns", ServiceAccount: "sa", Pod: ObjectRef{Name: "p", UID: "u"}, Lifetime: time.Hour}
	errMint     = errors.New("the server is away")
)

func newTestManager(t *testing.T) (*Manager, *rotationtest.Minter) {
	t.Helper()
	f := &rotationtest.Minter{}
	m, err := NewManager(f, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	return m, f
}

func TestGetMintsOnceAndAgainWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newTestManager(t)
		first, due, err := m.Get(t.Context(), testRequest)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(due) - time.Nanosecond)
		if g, _, err := m.Get(t.Context(), testRequest); err != nil || g.Claims.ID != first.Claims.ID || f.Calls() != 1 {
			t.Fatalf("just before it is due: token %s after %d mints, %v", g.Claims.ID, f.Calls(), err)
		}
		time.Sleep(time.Nanosecond)
		if g, _, err := m.Get(t.Context(), testRequest); err != nil || g.Claims.ID == first.Claims.ID || f.Calls() != 2 {
			t.Fatalf("when it is due: token %s after %d mints, %v", g.Claims.ID, f.Calls(), err)
		}
	})
}

func TestGetIsSingleFlight(t *testing.T) {
	for _, mintErr := range []error{nil, errMint} {
		t.Run(fmt.Sprint(mintErr), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := newTestManager(t)
				f.Behave(rotationtest.Behaviour{Err: mintErr, Delay: time.Second})
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						if g, _, err := m.Get(t.Context(), testRequest); !errors.Is(err, mintErr) || g.Token.IsZero() != (mintErr != nil) {
							t.Errorf("got token %v, error %v", !g.Token.IsZero(), err)
						}
					})
				}
				wg.Wait()
				if f.Calls() != 1 {
					t.Errorf("%d mints for 100 callers, want 1", f.Calls())
				}
			})
		})
	}
}

func TestGetServesTheOldTokenWhileItIsValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newTestManager(t)
		first, due, err := m.Get(t.Context(), testRequest)
		if err != nil {
			t.Fatal(err)
		}
		f.Behave(rotationtest.Behaviour{Err: errMint})
		time.Sleep(time.Until(due))
		g, _, err := m.Get(t.Context(), testRequest)
		if !errors.Is(err, errMint) || g.Claims.ID != first.Claims.ID {
			t.Fatalf("due and the server away: token %q, error %v; want the old token and the error", g.Claims.ID, err)
		}
		time.Sleep(time.Until(first.Deadline()))
		g, _, err = m.Get(t.Context(), testRequest)
		if !errors.Is(err, errMint) || !g.Token.IsZero() {
			t.Fatalf("expired and the server away: token %q, error %v; want no token", g.Claims.ID, err)
		}
		f.Behave(rotationtest.Behaviour{})
		if g, _, err := m.Get(t.Context(), testRequest); err != nil || g.Token.IsZero() {
			t.Fatalf("the server is back: %v", err)
		}
	})
}

func TestGetReturnsWhenItsCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newTestManager(t)
		f.Behave(rotationtest.Behaviour{Delay: time.Minute})
		leader, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := m.Get(leader, testRequest); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one that gave up got %v", err)
			}
		})
		synctest.Wait()
		// One that waited behind it mints for itself: that somebody else gave
		// up says nothing about the server.
		wg.Go(func() {
			if g, _, err := m.Get(t.Context(), testRequest); err != nil || g.Token.IsZero() {
				t.Errorf("the one behind it got %v", err)
			}
		})
		wg.Wait()
		if f.Calls() != 2 {
			t.Errorf("%d mints, want 2", f.Calls())
		}
	})
}

func TestForgetPodDropsAMintUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newTestManager(t)
		f.Behave(rotationtest.Behaviour{Delay: time.Minute})
		var wg sync.WaitGroup
		wg.Go(func() { _, _, _ = m.Get(t.Context(), testRequest) })
		synctest.Wait()
		m.ForgetPod("u")
		wg.Wait()
		if tokens, _, _ := m.Held(); tokens != 0 {
			t.Error("a forgotten Pod's token came back with a late answer")
		}
	})
}

func TestGetRefusesAnAnswerForAnotherPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newTestManager(t)
		f.Behave(rotationtest.Behaviour{PodUID: "another"})
		if g, _, err := m.Get(t.Context(), testRequest); err == nil || !g.Token.IsZero() {
			t.Errorf("took the token of another Pod: %v", err)
		}
	})
}

func TestAdopt(t *testing.T) {
	tests := []struct {
		name    string
		age     time.Duration // negative: the file is from the future
		mutate  func(*Grant)
		adopted bool
	}{
		{"current", time.Minute, func(*Grant) {}, true},
		{"from the future", -time.Hour, func(*Grant) {}, false},
		{"expired", 2 * time.Hour, func(*Grant) {}, false},
		{"of another Pod", time.Minute, func(g *Grant) { g.Claims.Pod.UID = "x" }, false},
		{"longer than the spec asks for", 2 * time.Hour, func(g *Grant) { g.Lifetime = 10000 * time.Hour }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &rotationtest.Minter{}
				m, err := NewManager(f, Policy{Fraction: 0.8, MaxAge: 24 * time.Hour, Spread: SpreadNone})
				if err != nil {
					t.Fatal(err)
				}
				g := Grant{
					Token: NewToken("t"), Claims: Claims{ID: "old", Pod: testRequest.Pod},
					Received: time.Now().Add(-tt.age), Lifetime: time.Hour,
				}
				tt.mutate(&g)
				if err := m.Adopt(testRequest, g); (err == nil) != tt.adopted {
					t.Fatalf("Adopt() = %v, want adopted %v", err, tt.adopted)
				}
				if !tt.adopted {
					return
				}
				got, due, err := m.Get(t.Context(), testRequest)
				if err != nil || got.Claims.ID != "old" || f.Calls() != 0 {
					t.Fatalf("token %q after %d mints, %v; want the adopted one and none", got.Claims.ID, f.Calls(), err)
				}
				if want := g.Received.Add(48 * time.Minute); !due.Equal(want) {
					t.Errorf("due at %v, want %v: its age counts from its file", due, want)
				}
			})
		})
	}
}
