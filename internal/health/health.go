// Package health keeps what the daemon is waiting for, in words, and logs each
// change once. It does not serve it; see package httpserver.
package health

import (
	"log/slog"
	"sync"

	"github.com/token-projector/token-projector/internal/logonce"
)

// Set is a number of conditions. Make it with NewSet. Its methods may be
// called concurrently.
type Set struct {
	logger *slog.Logger

	mu         sync.Mutex
	conditions []*Condition
}

// NewSet returns a set without conditions, which counts as healthy.
func NewSet(logger *slog.Logger) *Set { return &Set{logger: logger} }

// Condition is one thing that must be right for the daemon to do its job. Its
// methods may be called concurrently.
type Condition struct {
	set     *Set
	name    string
	problem string
}

// Add adds a condition that is not met yet, for the reason given. It is not
// logged.
func (s *Set) Add(name, reason string) *Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Condition{set: s, name: name, problem: reason}
	s.conditions = append(s.conditions, c)
	return c
}

// Report says that the condition is met, with nil, or why it is not. Each
// change is logged; a repetition, which may have another port or time in it, is not.
func (c *Condition) Report(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	c.set.mu.Lock()
	changed := !logonce.Same(c.problem, problem)
	c.problem = problem
	c.set.mu.Unlock()
	switch {
	case !changed && err != nil:
		c.set.logger.Debug("still not ready", "condition", c.name, "reason", problem)
	case !changed:
	case err != nil:
		c.set.logger.Warn("not ready", "condition", c.name, "reason", problem)
	default:
		c.set.logger.Info("ready", "condition", c.name)
	}
}

// Problems names each condition that is not met and why; it is empty when all
// are.
func (s *Set) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, c := range s.conditions {
		if c.problem != "" {
			out = append(out, c.name+": "+c.problem)
		}
	}
	return out
}
