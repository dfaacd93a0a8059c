package tokenfile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/kubernetes/pkg/volume/util"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// way is one in which a file called token is replaced in a directory.
type way struct {
	name string
	// begin prepares it and returns what puts the n-th token there.
	begin func(dir string) (put func(n int) error, err error)
	slow  bool // not at full speed
}

func path(dir string) string { return filepath.Join(dir, "token") }

var ways = []way{
	{name: "the kubelet's writer", begin: kubeletWriter},
	{name: "ours", begin: func(dir string) (func(int) error, error) {
		d := atomicdir.New(dir, atomicdir.WithGrace(0))
		return func(n int) error {
			_, err := d.Publish([]atomicdir.File{{Path: "token", Data: []byte(token(n)), Mode: 0600}})
			return err
		}, nil
	}},
	{name: "replaced by rename", begin: func(dir string) (func(int) error, error) {
		return func(n int) error { return replace(path(dir), n) }, nil
	}},
	{name: "a link to a file elsewhere", begin: func(dir string) (func(int) error, error) {
		elsewhere := dir + "-elsewhere"
		err := errors.Join(os.Mkdir(elsewhere, 0700), os.Symlink(path(elsewhere), path(dir)))
		return func(n int) error { return replace(path(elsewhere), n) }, err
	}},
	{name: "truncated and rewritten", begin: func(dir string) (func(int) error, error) {
		return func(n int) error { return rewrite(path(dir), n, os.O_TRUNC, 0) }, nil
	}},
	{name: "truncated and rewritten by somebody who takes his time", slow: true, begin: func(dir string) (func(int) error, error) {
		return func(n int) error { return rewrite(path(dir), n, os.O_TRUNC, 150*time.Millisecond) }, nil
	}},
	// Without a rest, so that a busy machine doesn't make one that is too long.
	{name: "written over, which mixes two of the same length", slow: true, begin: func(dir string) (func(int) error, error) {
		return func(n int) error { return rewrite(path(dir), n, 0, 0) }, nil
	}},
	{name: "deleted and back", begin: func(dir string) (func(int) error, error) {
		return func(n int) error {
			if err := os.Remove(path(dir)); err != nil && !os.IsNotExist(err) {
				return err
			}
			return os.WriteFile(path(dir), []byte(token(n)), 0600)
		}, nil
	}},
	{name: "with its directory, which comes later", slow: true, begin: func(dir string) (func(int) error, error) {
		err := os.Remove(dir)
		return func(n int) error {
			return errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0700), os.WriteFile(path(dir), []byte(token(n)), 0600))
		}, err
	}},
	{name: "with its directory, by rename", slow: true, begin: func(dir string) (func(int) error, error) {
		return func(n int) error {
			next := dir + "-next"
			return errors.Join(os.Mkdir(next, 0700), os.WriteFile(path(next), []byte(token(n)), 0600),
				os.Rename(dir, fmt.Sprint(dir, "-", n)), os.Rename(next, dir))
		}, nil
	}},
}

func kubeletWriter(dir string) (func(int) error, error) {
	w, err := util.NewAtomicWriter(dir, "test")
	return func(n int) error {
		return w.Write(map[string]util.FileProjection{"token": {Data: []byte(token(n)), Mode: 0600}}, nil)
	}, err
}

func replace(file string, n int) error {
	return errors.Join(os.WriteFile(file+".new", []byte(token(n)), 0600), os.Rename(file+".new", file))
}

// rewrite writes in three steps, with a rest between them, over what is there or
// after truncating it.
func rewrite(file string, n, truncate int, rest time.Duration) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|truncate, 0600)
	if err != nil {
		return err
	}
	text := token(n)
	for _, part := range []string{text[:10], text[10 : len(text)-20], text[len(text)-20:]} {
		time.Sleep(rest) // the rest is what is tested
		if _, err = f.WriteString(part); err != nil {
			break
		}
	}
	return errors.Join(err, f.Truncate(int64(len(text))), f.Close())
}

// burst is how many tokens come, a thousand a second, before the last one must be
// known; of slow ones each.
const burst = 250

// TestTorture replaces files in each way, with events only.
func TestTorture(t *testing.T) {
	var mu sync.Mutex
	total, missed, torn, slowest := 0, 0, int64(0), time.Duration(0)
	t.Run("ways", func(t *testing.T) {
		for _, w := range ways {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "dir")
				if err := os.Mkdir(dir, 0700); err != nil {
					t.Fatal(err)
				}
				put, err := w.begin(dir)
				if err != nil {
					t.Fatal(err)
				}
				f := follow(t, path(dir), never, 2)
				count, each := *swaps, burst
				if w.slow {
					count, each = 10, 1
				}
				pace := time.NewTicker(time.Millisecond)
				defer pace.Stop()
				late, began := 0, time.Now()
				var longest time.Duration
				for n := 1; n <= count; n++ {
					<-pace.C
					if err := put(n); err != nil {
						t.Fatal(err)
					}
					if n%each != 0 && n != count {
						continue
					}
					lag, ok := f.sees(n, prompt)
					longest = max(longest, lag)
					if !ok {
						late++
						t.Errorf("after %s the %dth token is not known", prompt, n)
					}
				}
				t.Logf("%d in %s, the last one of a burst known after at most %s", count, time.Since(began), longest)
				mu.Lock()
				defer mu.Unlock()
				total, missed, torn, slowest = total+count, missed+late, torn+f.torn.Load(), max(slowest, longest)
			})
		}
	})
	fmt.Printf("RESULT tokenfile swaps=%d missed_final=%d torn=%d ways=%d slowest_ms=%d\n", total, missed, torn, len(ways), slowest.Milliseconds())
	if torn != 0 {
		t.Errorf("%d torn tokens", torn)
	}
}
