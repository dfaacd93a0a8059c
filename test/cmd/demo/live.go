package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/referee"
)

// liveTable shows the tokens as they age and change: on a terminal as a table
// that is redrawn, elsewhere as a line for each change.
type liveTable struct {
	terminal, colour bool
	began            time.Time

	mu    sync.Mutex
	rows  []*liveRow
	drawn int // lines on the screen that belong to the table
}

type liveRow struct {
	path, name string
	request    rotation.Request
	id         string
	received   time.Time
	due        time.Time
	changed    time.Time // when the last swap was seen
	rotations  int
}

// policy is what projectord is started with.
var policy = rotation.Policy{Fraction: 0.8, MaxAge: maxAge, Spread: rotation.SpreadPhase}

func newLiveTable(began time.Time) *liveTable {
	terminal := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"
	return &liveTable{terminal: terminal, colour: terminal && os.Getenv("NO_COLOR") == "", began: began}
}

// add makes a row for a file. Rows are shown in the order in which they came.
func (t *liveTable) add(path, name string, request rotation.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, &liveRow{path: path, name: name, request: request})
}

// remove takes a row out.
func (t *liveTable) remove(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, r := range t.rows {
		if r.path == path {
			t.rows = append(t.rows[:i:i], t.rows[i+1:]...)
			return
		}
	}
}

// change takes note of a new token.
func (t *liveTable) change(c referee.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		if r.path != c.File.Path {
			continue
		}
		r.id, r.received = c.Claims.ID, time.Now()
		if info, err := os.Stat(r.path); err == nil {
			r.received = info.ModTime()
		}
		r.due = policy.Due(r.request, rotation.Grant{Claims: c.Claims, Received: r.received, Lifetime: c.Claims.Lifetime()})
		if c.First {
			continue
		}
		r.changed, r.rotations = time.Now(), r.rotations+1
		if !t.terminal {
			say("%5.1fs  %-34s new token %.8s…, the one before was %.0f s old",
				time.Since(t.began).Seconds(), r.name, c.Claims.ID, c.PreviousAge.Seconds())
		}
	}
}

// show lets the table run until done is closed, and leaves its last state on
// the screen.
func (t *liveTable) show(done <-chan struct{}) {
	if !t.terminal {
		<-done
		return
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		t.draw(time.Now())
		select {
		case <-ticker.C:
		case <-done:
			t.mu.Lock()
			t.drawn = 0
			t.mu.Unlock()
			return
		}
	}
}

// barWidth is the length of a token's bar, in characters.
const barWidth = 30

// flash is how long a swap stands out.
const flash = 1500 * time.Millisecond

func (t *liveTable) draw(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", t.drawn) // back up to the table's first line
	}
	line := func(style, text string) {
		out.WriteString("\x1b[2K      ")
		if t.colour && style != "" {
			out.WriteString("\x1b[" + style + "m" + text + "\x1b[0m")
		} else {
			out.WriteString(text)
		}
		out.WriteByte('\n')
	}
	line("1", fmt.Sprintf("%-34s %-9s  %-*s  %s", "VOLUME", "TOKEN", barWidth+7, "NEXT ROTATION", "ROTATIONS"))
	for _, r := range t.rows {
		text, style := r.line(now), ""
		if now.Sub(r.changed) < flash {
			text, style = text+"  swapped", "1;32"
		}
		line(style, text)
	}
	t.drawn = len(t.rows) + 1
	fmt.Print(out.String())
}

func (r *liveRow) line(now time.Time) string {
	if r.id == "" {
		return r.name
	}
	age, life := max(0, now.Sub(r.received)), r.due.Sub(r.received)
	full := min(barWidth, int(int64(age)*barWidth/int64(life)))
	bar := strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
	return fmt.Sprintf("%-34s %-.8s…  [%s] %3.0fs  %d", r.name, r.id, bar, max(0, (life-age).Seconds()), r.rotations)
}

// mark is a check's result.
func (t *liveTable) mark(ok bool) string {
	text, style := "ok  ", "32"
	if !ok {
		text, style = "FAIL", "1;31"
	}
	if t.colour {
		return "\x1b[" + style + "m" + text + "\x1b[0m"
	}
	return text
}
