package rotation_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// TestServiceAccountReplaced: a mint that tells of it has all tokens of the
// account replaced, and each is asked for once.
func TestServiceAccountReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newClockManager(t, &serverClock{})
		f.Behave(rotationtest.Behaviour{AccountUID: "one"})
		other := testRequest
		other.Pod.UID = "v"
		get := func(r Request) string {
			g, _, err := m.Get(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			return g.Claims.ServiceAccount.UID
		}
		_, due, err := m.Get(t.Context(), testRequest)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		get(other)
		told := 0
		m.OnDue(func() { told++ })
		f.Behave(rotationtest.Behaviour{AccountUID: "two"})
		time.Sleep(time.Until(due))
		if uid := get(testRequest); uid != "two" || told != 1 {
			t.Errorf("a token of account %q, told %d times", uid, told)
		}
		calls := f.Calls()
		if uid := get(other); uid != "two" || f.Calls() != calls+1 {
			t.Errorf("the other token is of account %q after %d mints", uid, f.Calls()-calls)
		}
	})
}

func TestCheckAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newTestManager(t)
		f.Behave(rotationtest.Behaviour{AccountUID: "one"})
		if _, _, err := m.Get(t.Context(), testRequest); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int64
		var uid atomic.Pointer[string] // nil: the lookup fails
		answer := func(text string) { uid.Store(&text) }
		answer("one")
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.CheckAccounts(ctx, time.Minute, func(_ context.Context, namespace, name string) (string, error) {
				asked.Add(1)
				if namespace != "ns" || name != "sa" {
					t.Errorf("asked for %s/%s", namespace, name)
				}
				if now := uid.Load(); now != nil {
					return *now, nil
				}
				return "", errors.New("forbidden")
			})
		}()
		after := func(d time.Duration) string {
			time.Sleep(d)
			synctest.Wait()
			g, _, err := m.Get(t.Context(), testRequest)
			if err != nil {
				t.Fatal(err)
			}
			return g.Claims.ServiceAccount.UID
		}
		f.Behave(rotationtest.Behaviour{AccountUID: "two"})
		if got := after(3 * time.Minute); got != "one" || asked.Load() != 3 {
			t.Errorf("account %q after %d lookups in 3 intervals", got, asked.Load())
		}
		uid.Store(nil)
		if got := after(time.Minute); got != "one" {
			t.Errorf("an error was taken for a change: %q", got)
		}
		answer("two")
		if got := after(time.Minute); got != "two" {
			t.Errorf("account %q an interval after it was replaced", got)
		}
		cancel()
		<-done
	})
}

// TestCheckAccountsAfterARestart: tokens of the old account and of the new one
// were adopted, in either order.
func TestCheckAccountsAfterARestart(t *testing.T) {
	for _, order := range [][]string{{"one", "two"}, {"two", "one"}} {
		synctest.Test(t, func(t *testing.T) {
			m, f := newTestManager(t)
			f.Behave(rotationtest.Behaviour{AccountUID: "two"})
			for _, uid := range order {
				r := testRequest
				r.Pod.UID = "pod-" + uid
				g := Grant{Token: NewToken("t"), Received: time.Now(), Lifetime: time.Hour,
					Claims: Claims{Pod: r.Pod, ServiceAccount: ObjectRef{Name: "sa", UID: uid}}}
				if err := m.Adopt(r, g); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				m.CheckAccounts(ctx, time.Minute, func(context.Context, string, string) (string, error) { return "two", nil })
			}()
			time.Sleep(2 * time.Minute)
			for _, uid := range order {
				r := testRequest
				r.Pod.UID = "pod-" + uid
				g, _, err := m.Get(t.Context(), r)
				if err != nil || g.Claims.ServiceAccount.UID != "two" {
					t.Errorf("order %q: the token of %q is of account %q, %v", order, uid, g.Claims.ServiceAccount.UID, err)
				}
			}
			if f.Calls() != 1 {
				t.Errorf("%d mints, want one", f.Calls())
			}
			cancel()
			<-done
		})
	}
}
