package rootlock

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAcquire(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	first, err := Acquire(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	expired, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Acquire(expired, root)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d ", os.Getpid())) {
		t.Fatalf("second lock: %v, want an error that says who holds it", err)
	}

	got := make(chan error)
	go func() {
		second, err := Acquire(t.Context(), root)
		if err == nil {
			err = second.Release()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("second lock while the first is held: %v", err)
	case <-time.After(2 * pollInterval): // it must have tried, and wait
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("second lock after the first was released: %v", err)
	}
}

func TestAcquireSaysWhyTheDirectoryCanNotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Acquire(ctx, filepath.Join(file, "root")); err == nil || !strings.Contains(err.Error(), "--root-dir") {
		t.Errorf("root below a file: %v", err)
	}
}
