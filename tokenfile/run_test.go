package tokenfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// running is a source that runs in a synctest bubble, which fails a test that
// leaves a goroutine behind. By its clock nothing takes time but what waits.
func running(t *testing.T, path string, watch func() (*watcher, error), options ...Option) *Source {
	t.Helper()
	s := open(t, path, options...)
	s.watch = watch
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	return s
}

// holds wants a token to be known, without having the file looked at.
func (s *Source) holds(t *testing.T, text string) {
	t.Helper()
	synctest.Wait()
	if token, _, _ := s.current(); token.Reveal() != text {
		t.Fatalf("it has another token than %q", text)
	}
}

func TestRunReactsToSigns(t *testing.T) {
	for _, tt := range []struct {
		name string
		give func(f *signs, dir string)
		want string
	}{
		{"..data was swapped", func(f *signs, dir string) {
			f.events <- fsnotify.Event{Name: filepath.Join(dir, dataLink), Op: fsnotify.Create}
		}, "two"},
		{"the directory was removed", func(f *signs, dir string) {
			f.events <- fsnotify.Event{Name: dir, Op: fsnotify.Remove}
		}, "two"},
		{"another file", func(f *signs, dir string) {
			f.events <- fsnotify.Event{Name: filepath.Join(dir, "..2"), Op: fsnotify.Create}
		}, "one"},
		{"the queue overflowed", func(f *signs, _ string) { f.errs <- fsnotify.ErrEventOverflow }, "two"},
		{"no sign", func(*signs, string) {}, "one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, err := filepath.EvalSymlinks(t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				swap(t, dir, "..1", "one")
				f := newSigns()
				s := running(t, filepath.Join(dir, "token"), f.make)
				s.holds(t, "one")
				swap(t, dir, "..2", "two")
				tt.give(f, dir)
				time.Sleep(gathering)
				s.holds(t, tt.want)
				time.Sleep(DefaultPoll)
				s.holds(t, "two")
				if n, _ := f.counts(); n != 1 {
					t.Errorf("%d watchers were made for one directory", n)
				}
			})
		})
	}
}

// TestRunGathersSigns: however many there are, the file is read once in a while,
// and signs without an end don't put it off.
func TestRunGathersSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		swap(t, dir, "..1", "one")
		f := newSigns()
		s := running(t, filepath.Join(dir, "token"), f.make)
		s.mu.Lock()
		first := s.looked
		s.mu.Unlock()
		looks := map[time.Time]bool{}
		for range 1000 {
			f.events <- fsnotify.Event{Name: filepath.Join(dir, dataLink), Op: fsnotify.Create}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			s.mu.Lock()
			looks[s.looked] = true
			s.mu.Unlock()
		}
		delete(looks, first)
		if n := len(looks); n < 80 || n > 100 {
			t.Errorf("1000 signs in a second had the file read %d times, want once in %s", n, gathering)
		}
	})
}

// TestRunWithoutWatches: a node that has none left is polled, and it says so.
func TestRunWithoutWatches(t *testing.T) {
	for name, broken := range map[string]func() (*watcher, error){
		"no instances": func() (*watcher, error) { return nil, errors.New("too many open files") },
		"no watches": func() (*watcher, error) {
			w, err := newSigns().make()
			w.add = func(string) error { return errors.New("no space left on device") }
			return w, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "token")
				write(t, path, "one")
				var reports reports
				var works atomic.Bool
				f := newSigns()
				s := running(t, path, func() (*watcher, error) {
					if works.Load() {
						return f.make()
					}
					return broken()
				}, WithPoll(10*time.Second), WithReport(reports.add))
				time.Sleep(settling)
				s.holds(t, "one")
				write(t, path, "two")
				time.Sleep(10*time.Second + settling)
				s.holds(t, "two")
				works.Store(true)
				time.Sleep(20 * time.Second)
				synctest.Wait()
				if got := reports.all(); len(got) != 2 || got[0] == nil || got[1] != nil {
					t.Errorf("reports %v, want one error and its end", got)
				}
			})
		})
	}
}

type reports struct {
	mu   sync.Mutex
	list []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, err)
}

func (r *reports) all() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// TestRunReadsAgainWhatIsBeingRewritten, without another sign.
func TestRunReadsAgainWhatIsBeingRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		path, f := filepath.Join(dir, "token"), newSigns()
		s := running(t, path, f.make)
		write(t, path, "one")
		f.events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
		time.Sleep(gathering + settling/2)
		write(t, path, "two")
		time.Sleep(settling)
		s.holds(t, "")
		time.Sleep(2 * settling)
		s.holds(t, "two")
	})
}

// TestRunLooksMoreOftenForAToken while it has none: a volume may be mounted over
// the directory that is watched, and nothing tells of that.
func TestRunLooksMoreOftenForAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, f := t.TempDir(), newSigns()
		s := running(t, filepath.Join(dir, "token"), f.make)
		for n, text := range []string{ending(time.Now().Add(2 * time.Hour)), ending(time.Now().Add(4 * time.Hour))} {
			time.Sleep(time.Hour)
			swap(t, dir, fmt.Sprint("..", n), text)
			time.Sleep(again)
			s.holds(t, text)
			time.Sleep(time.Hour) // it has expired
		}
	})
}

// TestRunRenewsWatches whose directory is another by now, or whose watch died.
func TestRunRenewsWatches(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *signs, dir string) error
	}{
		{"another directory has the name", func(_ *signs, dir string) error {
			return errors.Join(os.Rename(dir, dir+"-old"), os.Mkdir(dir, 0700))
		}},
		{"the watch died with the mount", func(f *signs, _ string) error { f.locked(func() { f.watched = nil }); return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "dir")
				if err := os.Mkdir(dir, 0700); err != nil {
					t.Fatal(err)
				}
				f := newSigns()
				running(t, filepath.Join(dir, "token"), f.make)
				if err := tt.change(f, dir); err != nil {
					t.Fatal(err)
				}
				time.Sleep(DefaultPoll)
				synctest.Wait()
				if made, open := f.counts(); made != 2 || open != 1 {
					t.Errorf("%d watchers were made and %d are open, want 2 and 1", made, open)
				}
			})
		})
	}
}

func TestRunOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newSigns()
		s := running(t, filepath.Join(t.TempDir(), "token"), f.make)
		if err := s.Run(t.Context()); err == nil {
			t.Error("Run ran twice at once")
		}
	})
}

// TestChanged is told once for each change that is seen, to all.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		write(t, path, "one")
		f := newSigns()
		s := running(t, path, f.make, WithPoll(time.Second))
		time.Sleep(settling)
		s.holds(t, "one")
		told := func(c <-chan struct{}) bool {
			select {
			case <-c:
				return true
			default:
				return false
			}
		}
		first, other := s.Changed(), s.Changed()
		write(t, path, "one\n") // the same token
		time.Sleep(2 * time.Second)
		if synctest.Wait(); told(first) {
			t.Error("told of no change")
		}
		write(t, path, "two")
		time.Sleep(2 * time.Second)
		if synctest.Wait(); !told(first) || !told(other) || told(s.Changed()) {
			t.Error("not told once, and all")
		}
	})
}
