package tokenfile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// InCluster is where every container of a Pod finds its service account's token.
const InCluster = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// DefaultPoll is how often a file is looked at without a sign.
const DefaultPoll = time.Minute

// again is how soon a file is looked at again while there is no token, or only
// one that has expired.
const again = time.Second

// Source is one file with a token. Make it with Open; many goroutines may use it.
type Source struct {
	path   string
	poll   time.Duration
	report func(error)
	watch  func() (*watcher, error)

	running atomic.Bool
	// looking is held by who reads the file. A channel, because who waits for it
	// may give up.
	looking chan struct{}

	mu      sync.Mutex // guards what follows
	token   Token
	err     error     // why the last look found nothing that counts
	looked  time.Time // zero: never
	changed chan struct{}
}

// Option changes what Open makes.
type Option func(*Source)

// WithPoll has the file looked at so often without a sign, at least 10 ms apart.
// The default is DefaultPoll. While there is no token, or only one that has expired,
// it is a second if that is less.
func WithPoll(interval time.Duration) Option { return func(s *Source) { s.poll = interval } }

// WithReport has Run tell f what hinders it, once for each change of that: the
// file holds nothing that counts, or its directory can't be watched and is only
// polled. It tells nil when that is over. f must not block; no error holds any
// part of a token. By default nobody is told.
func WithReport(f func(error)) Option { return func(s *Source) { s.report = f } }

// Open makes the source of a file's token. It starts nothing and reads nothing:
// the file may come later. It fails on an empty path, or an interval that is too
// short.
func Open(path string, options ...Option) (*Source, error) {
	if path == "" {
		return nil, errors.New("opening a token file: the path is empty")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening a token file: %w", err)
	}
	s := &Source{
		path: absolute, poll: DefaultPoll, report: func(error) {}, watch: newWatcher,
		looking: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	for _, o := range options {
		o(s)
	}
	if s.poll < 10*time.Millisecond {
		return nil, fmt.Errorf("opening a token file: a poll every %s is too often, want 10ms or more", s.poll)
	}
	return s, nil
}

// Token is the current token. Its error wraps ErrExpired, and then the token is
// there all the same, for who insists; or ErrNoToken, or ctx's.
//
// As a rule it returns at once. It reads the file if nobody has for as long as a
// poll takes, or for a second while there is no token or one that has expired.
func (s *Source) Token(ctx context.Context) (Token, error) {
	token, due, err := s.current()
	if !due {
		return token, err
	}
	select {
	case s.looking <- struct{}{}:
	default: // somebody reads it
		if err == nil {
			return token, nil
		}
		select {
		case s.looking <- struct{}{}:
		case <-ctx.Done():
			return token, errors.Join(err, ctx.Err())
		}
	}
	defer func() { <-s.looking }()
	if token, due, err = s.current(); !due {
		return token, err
	}
	return s.lookLocked(ctx)
}

// Reread reads the file now, and returns what Token does: for who was just told
// that a token doesn't count any more.
func (s *Source) Reread(ctx context.Context) (Token, error) {
	select {
	case s.looking <- struct{}{}:
	case <-ctx.Done():
		token, _, err := s.current()
		return token, errors.Join(err, ctx.Err())
	}
	defer func() { <-s.looking }()
	return s.lookLocked(ctx)
}

// Changed returns a channel that is closed when there is another token than now,
// or the first. Who asks for it before the token misses nothing:
//
//	for {
//		changed := source.Changed()
//		token, err := source.Token(ctx)
//		...
//		<-changed
//	}
//
// It tells of what Run, Token and Reread see. That a token expires is no change.
func (s *Source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// current is what is known, and whether it is time to look again.
func (s *Source) current() (token Token, due bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.token.IsZero():
		err = ErrNoToken
	case s.token.Expired(now):
		err = fmt.Errorf("%w at %s", ErrExpired, s.token.Deadline.UTC().Format(time.RFC3339))
	}
	if err != nil && s.err != nil {
		err = fmt.Errorf("%w: %w", err, s.err)
	}
	wait := s.poll
	if err != nil {
		wait = min(wait, again)
	}
	return s.token, s.looked.IsZero() || now.Sub(s.looked) >= wait, err
}

// lookLocked reads the file and takes what counts. It needs looking.
func (s *Source) lookLocked(ctx context.Context) (Token, error) {
	s.mu.Lock()
	known := s.token.Reveal()
	s.mu.Unlock()
	text, err := settled(ctx, s.path, known)
	if ctx.Err() == nil { // else it says nothing of the file
		s.mu.Lock()
		s.looked, s.err = time.Now(), err
		if err == nil && text != known {
			s.token = newToken(text)
			close(s.changed)
			s.changed = make(chan struct{})
		}
		s.mu.Unlock()
	}
	token, _, err := s.current()
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return token, err
}

// problem is why the last look found nothing that counts.
func (s *Source) problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
