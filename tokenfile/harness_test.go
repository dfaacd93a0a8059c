package tokenfile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

var encode = base64.RawURLEncoding.EncodeToString

// jwt is a token with these claims that is as long as a real one.
func jwt(claims string) string {
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode([]byte(claims)) + "." + encode(make([]byte, 256))
}

// ending is a token that ends at a moment.
func ending(at time.Time) string { return jwt(fmt.Sprintf(`{"exp":%d}`, at.Unix())) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0600); err != nil {
		t.Fatal(err)
	}
}

// swap publishes a file called token as the kubelet does.
func swap(t *testing.T, dir, generation, text string) {
	t.Helper()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, generation), 0700),
		os.WriteFile(filepath.Join(dir, generation, "token"), []byte(text), 0600),
		os.Symlink(generation, filepath.Join(dir, "..data_tmp")),
		os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, dataLink)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..data/token", filepath.Join(dir, "token")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string, options ...Option) *Source {
	t.Helper()
	s, err := Open(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// want wants a token with this text and an error that is this one.
func (s *Source) want(t *testing.T, text string, is error) {
	t.Helper()
	token, err := s.Token(t.Context())
	if token.Reveal() != text || !errors.Is(err, is) {
		t.Fatalf("the token is the one that is wanted: %v; error %v, want %v", token.Reveal() == text, err, is)
	}
}

// signs is a watcher that tells what a test has it tell, because it stands for
// faults that the real one can't be made to show on any machine.
type signs struct {
	events chan fsnotify.Event
	errs   chan error

	mu         sync.Mutex // guards what follows
	watched    []string
	made, open int
}

func newSigns() *signs {
	return &signs{events: make(chan fsnotify.Event), errs: make(chan error)}
}

// locked calls f while nothing else uses what the lock guards.
func (f *signs) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *signs) make() (*watcher, error) {
	f.locked(func() { f.made++; f.open++; f.watched = nil })
	return &watcher{
		events: f.events, errs: f.errs,
		add: func(dir string) error {
			f.locked(func() { f.watched = append(f.watched, dir) })
			return nil
		},
		list: func() (dirs []string) {
			f.locked(func() { dirs = slices.Clone(f.watched) })
			return dirs
		},
		close: func() error {
			f.locked(func() { f.open-- })
			return nil
		},
	}, nil
}

// counts are how many watchers were made, and how many of them are open.
func (f *signs) counts() (made, open int) {
	f.locked(func() { made, open = f.made, f.open })
	return made, open
}
