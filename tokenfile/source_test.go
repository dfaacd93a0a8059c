package tokenfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(""); err == nil {
		t.Error("an empty path was taken")
	}
	if _, err := Open("token", WithPoll(time.Millisecond)); err == nil {
		t.Error("a poll every millisecond was taken")
	}
}

// TestTokenWithoutRun: nothing runs, and still a token is never older than a poll.
func TestTokenWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		s := open(t, path)
		s.want(t, "", ErrNoToken)
		s.want(t, "", fs.ErrNotExist)
		changed := s.Changed()
		write(t, path, "one\n")
		s.want(t, "", ErrNoToken) // it was just looked at
		time.Sleep(again)
		s.want(t, "one", nil)
		select {
		case <-changed:
		default:
			t.Error("the first token is no change")
		}
		write(t, path, "two")
		time.Sleep(DefaultPoll - time.Second)
		s.want(t, "one", nil)
		time.Sleep(time.Second)
		s.want(t, "two", nil)
	})
}

// TestReread reads at once.
func TestReread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		s := open(t, path)
		write(t, path, "one")
		s.want(t, "one", nil)
		write(t, path, "two")
		if token, err := s.Reread(t.Context()); err != nil || token.Reveal() != "two" {
			t.Errorf("not the new token: %v", err)
		}
	})
}

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		deadline := time.Now().Add(time.Hour)
		first, second := ending(deadline), ending(time.Now().Add(2*time.Hour))
		write(t, path, first)
		s := open(t, path)
		s.want(t, first, nil)
		time.Sleep(time.Until(deadline) - 1)
		s.want(t, first, nil)
		time.Sleep(time.Nanosecond)
		s.want(t, first, ErrExpired)
		write(t, path, second)
		time.Sleep(again)
		s.want(t, second, nil)
		write(t, path, first) // the file is right, even when it goes back
		time.Sleep(DefaultPoll)
		s.want(t, first, ErrExpired)
	})
}

// TestWhatDoesNotCount: what was there before goes on, and no error shows what
// the file holds.
func TestWhatDoesNotCount(t *testing.T) {
	long := jwt(`{"sub":"swordfish"}`)
	for _, tt := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"gone", os.Remove, "no such file"},
		{"empty", content(""), "empty"},
		{"blank", content(" \n"), "empty"},
		{"cut", content(long[:len(long)-1]), "a part of"},
		{"two lines", content("sword\nfish"), "a gap"},
		{"a control character", content("swordfish\x00"), "control"},
		{"too large", content(strings.Repeat("swordfish", 10_000)), "more than"},
		{"a directory", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0700)) }, "no regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "token")
				write(t, path, "before")
				s := open(t, path)
				s.want(t, "before", nil)
				if err := tt.make(path); err != nil {
					t.Fatal(err)
				}
				time.Sleep(DefaultPoll)
				s.want(t, "before", nil)

				fresh := open(t, path)
				_, err := fresh.Token(t.Context())
				if !errors.Is(err, ErrNoToken) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sword") {
					t.Errorf("error %v, want ErrNoToken with %q", err, tt.want)
				}
				if strings.Count(err.Error(), path) != 1 {
					t.Errorf("error %q does not name the file once", err)
				}
			})
		})
	}
}

func content(text string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text), 0600) }
}

// TestBackAgain: a file that was deleted is read when it is back.
func TestBackAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		write(t, path, "one")
		s := open(t, path)
		s.want(t, "one", nil)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(DefaultPoll)
		s.want(t, "one", nil)
		write(t, path, "two")
		time.Sleep(DefaultPoll)
		s.want(t, "two", nil)
	})
}

// TestPlainFileSettles: what is read once and then differs is not a token. A
// file of a volume needs no second reading.
func TestPlainFileSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		s := open(t, path)
		one, two := jwt(`{"sub":"`+strings.Repeat("1", 60)+`"}`), jwt(`{"sub":"`+strings.Repeat("2", 60)+`"}`)
		write(t, path, two[:60]+one[60:]) // written over, and so far half of it
		go func() {
			time.Sleep(settling / 2)
			write(t, path, two)
		}()
		s.want(t, "", errUnsettled)
		time.Sleep(again)
		s.want(t, two, nil)

		dir := t.TempDir()
		swap(t, dir, "..1", "one")
		volume, began := open(t, filepath.Join(dir, "token")), time.Now()
		volume.want(t, "one", nil)
		if took := time.Since(began); took != 0 {
			t.Errorf("the first token of a volume took %s", took)
		}
	})
}

// TestTokenGivesUp when its context ends while somebody else reads, or it does;
// and who has a token does not wait.
func TestTokenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		write(t, path, "one")
		s := open(t, path)
		ctx, cancel := context.WithTimeout(t.Context(), settling/2)
		defer cancel()
		if _, err := s.Token(ctx); !errors.Is(err, ErrNoToken) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it reads: %v", err)
		}
		s.looking <- struct{}{}
		if _, err := s.Token(ctx); !errors.Is(err, ErrNoToken) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while somebody else reads: %v", err)
		}
		if _, err := s.Reread(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reading again while somebody else reads: %v", err)
		}
		<-s.looking
		s.want(t, "one", nil)
		time.Sleep(DefaultPoll)
		s.looking <- struct{}{}
		s.want(t, "one", nil)
	})
}
