package tokenfile

import (
	"context"
	"errors"
	"time"
)

// gathering is how long signs are gathered before the file is read: a swap is
// several.
const gathering = 10 * time.Millisecond

// Run follows the file until ctx ends, and then returns nil; everything that it
// started has ended by then. It fails at once if it is running already, and for
// no other reason: what can't be watched is polled.
func (s *Source) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("following a token file: Run is running already")
	}
	defer s.running.Store(false)
	w := &watch{make: s.watch}
	defer w.end()
	poll := time.NewTicker(s.poll)
	defer poll.Stop()
	told := ""
	for {
		unwatched := w.follow(s.path)
		_, err := s.Reread(ctx) // Token tells of it
		problem := s.problem()
		if ctx.Err() == nil {
			told = s.tell(told, errors.Join(unwatched, problem))
		}
		var retry <-chan time.Time
		switch {
		case errors.Is(problem, errUnsettled):
			retry = time.After(settling)
		case err != nil: // somebody waits for a token
			retry = time.After(again)
		}
		if !w.wait(ctx, poll.C, retry) {
			return nil
		}
	}
}

// tell reports what hinders, if that is not what was told last, and returns what
// is told now.
func (s *Source) tell(told string, problem error) string {
	now := ""
	if problem != nil {
		now = problem.Error()
	}
	if now != told {
		s.report(problem)
	}
	return now
}

// wait waits until it is time to look again, and says whether it ever is.
func (w *watch) wait(ctx context.Context, poll, retry <-chan time.Time) bool {
	var gathered <-chan time.Time
	events, errs := w.signs()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-poll:
			return true
		case <-retry:
			return true
		case <-gathered:
			return true
		case e := <-events:
			if !w.concerns(e) {
				continue
			}
		case <-errs: //nolint:errcheck // that events were lost matters, and not why
		}
		if gathered == nil {
			gathered = time.After(gathering)
		}
	}
}
