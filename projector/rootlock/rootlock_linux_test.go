package rootlock

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "a", "b")
		first, err := Acquire(t.Context(), root, func(err error) { t.Errorf("waits for a free lock: %v", err) })
		if err != nil {
			t.Fatal(err)
		}
		holder := fmt.Sprintf("process %d ", os.Getpid())
		var said []string
		waiting := func(err error) { said = append(said, err.Error()) }
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err = Acquire(limited, root, waiting); err == nil || !strings.Contains(err.Error(), holder) {
			t.Fatalf("second lock: %v, want an error that says who holds it", err)
		}
		if len(said) != 1 || !strings.Contains(said[0], holder) {
			t.Errorf("while waiting it said %q, want once who holds it", said)
		}

		got := make(chan error)
		go func() {
			second, err := Acquire(t.Context(), root, waiting)
			if err == nil {
				err = second.Release()
			}
			got <- err
		}()
		time.Sleep(time.Minute)
		select {
		case err := <-got:
			t.Fatalf("second lock while the first is held: %v", err)
		default:
		}
		if err := first.Release(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Errorf("second lock after the first was released: %v", err)
		}
	})
}

func TestAcquireSaysWhyTheDirectoryCanNotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Acquire(ctx, filepath.Join(file, "root"), func(error) {}); err == nil || !strings.Contains(err.Error(), "--root-dir") {
		t.Errorf("root below a file: %v", err)
	}
}
