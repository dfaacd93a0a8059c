package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

type refusal struct{ error }

func (refusal) RetryAfter() time.Duration { return time.Second }

func TestAfterOutage(t *testing.T) {
	away := errors.New("connection refused")
	for _, tt := range []struct {
		name  string
		errs  []error
		ended int
	}{
		{"all is well", []error{nil, nil}, 0},
		{"an outage", []error{nil, away, away, nil, nil}, 1},
		{"two outages", []error{away, nil, away, nil}, 2},
		{"a refusal", []error{refusal{away}, nil}, 0},
		{"a new Pod", []error{projector.ErrCatchingUp, nil}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			passed, ended := 0, 0
			observe := afterOutage(func(rotation.Rotation) { passed++ }, func() { ended++ })
			for _, err := range tt.errs {
				observe(rotation.Rotation{Err: err})
				synctest.Wait()
			}
			if passed != len(tt.errs) || ended != tt.ended {
				t.Errorf("%s: %d passed on, ended %d times, want %d", tt.name, passed, ended, tt.ended)
			}
		})
	}
}
