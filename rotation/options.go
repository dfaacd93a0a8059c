package rotation

import "time"

// Rotation is one attempt to replace a token, or to get the first one.
type Rotation struct {
	Request Request
	First   bool
	// Late is how long after its due moment the token came; negative never.
	Late time.Duration
	Err  error
}

// Option changes what NewManager makes.
type Option func(*Manager)

// WithPace bounds the rate of requests; the default does not.
func WithPace(p *Pace) Option { return func(m *Manager) { m.pace = p } }

// WithServerClock tells what time it is for the API server, once that is known.
// It must neither block nor call the Manager. It is used where a token's own times
// count: to find out how old a token is if the node's clock was set, and whether it
// is from the future. The default is never known.
func WithServerClock(now func() (t time.Time, known bool)) Option {
	return func(m *Manager) { m.server = now }
}

// WithObserver tells f of each mint that ended. It is called by many goroutines, and
// must not block.
func WithObserver(f func(Rotation)) Option { return func(m *Manager) { m.observe = f } }
