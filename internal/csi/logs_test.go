package csi

import (
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

// logs keeps what is logged, at all levels.
type logs struct {
	mu    sync.Mutex
	text  strings.Builder
	lines chan string
}

func newLogs() *logs { return &logs{lines: make(chan string, 1000)} }

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.lines <- string(line):
	default: // nobody waits for one
	}
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.Level(math.MinInt)}))
}

// wait waits for one more line with a text.
func (l *logs) wait(t *testing.T, text string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case line := <-l.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			t.Fatalf("nothing of %q in the log:\n%s", text, l)
		}
	}
}
