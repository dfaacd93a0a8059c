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
	path, pod string
	who       string // for whom the token speaks, and to whom
	request   rotation.Request
	id        string
	received  time.Time
	due       time.Time
	changed   time.Time // when the last swap was seen
	rotations int
}

// policy is what projectord is started with.
var policy = rotation.Policy{Fraction: 0.8, MaxAge: maxAge, Spread: rotation.SpreadPhase}

func newLiveTable(began time.Time) *liveTable {
	terminal := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"
	return &liveTable{terminal: terminal, colour: terminal && os.Getenv("NO_COLOR") == "", began: began}
}

// add makes a row for a file. Rows are shown in the order in which they came.
func (t *liveTable) add(path, pod string, request rotation.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, &liveRow{
		path: path, pod: pod, request: request, who: request.ServiceAccount + " to " + audienceName(request.Audience),
	})
}

// audienceName says for whom a token is.
func audienceName(audience string) string {
	if audience == "" {
		return "API server"
	}
	return audience
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
			say("%5.1fs  %-*s  %-*s  new token %.8s…, the one before was %.0f s old",
				time.Since(t.began).Seconds(), podWidth, r.pod, whoWidth, r.who, c.Claims.ID, c.PreviousAge.Seconds())
		}
	}
}

// show lets the table run until done is closed, and leaves its last state on
// the screen.
func (t *liveTable) show(done <-chan struct{}) {
	if !t.terminal {
		<-done
		fmt.Println()
		t.draw(time.Now()) // once, for the record
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

// The table's columns, in characters. The bar takes what a line has left.
const (
	indent    = 6
	podWidth  = 11
	whoWidth  = 25
	idWidth   = 9
	tailWidth = len(" 10s   9  swapped")
	minBar    = 8
	maxBar    = 30
)

// barWidth is the length of a token's bar on a terminal this wide.
func barWidth(columns int) int {
	return max(minBar, min(maxBar, columns-indent-podWidth-whoWidth-idWidth-tailWidth-len("  ")*3-len("[]")))
}

// cut keeps a line from wrapping, which would break the redrawing.
func cut(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns {
		return string(runes[:columns])
	}
	return text
}

// flash is how long a swap stands out.
const flash = 1500 * time.Millisecond

func (t *liveTable) draw(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	columns, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || columns <= 0 {
		columns = 80
	}
	bar := barWidth(columns)
	var out strings.Builder
	if t.terminal && t.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", t.drawn) // back up to the table's first line
	}
	line := func(style, text string) {
		if t.terminal {
			out.WriteString("\x1b[2K")
		}
		out.WriteString(strings.Repeat(" ", indent))
		text = cut(text, columns-indent)
		if t.colour && style != "" {
			out.WriteString("\x1b[" + style + "m" + text + "\x1b[0m")
		} else {
			out.WriteString(text)
		}
		out.WriteByte('\n')
	}
	line("1", fmt.Sprintf("%-*s  %-*s  %-*s  %-*s SWAPS", podWidth, "POD", whoWidth, "TOKEN OF", idWidth, "ID", bar+len("[] 10s"), "NEXT ROTATION"))
	for _, r := range t.rows {
		text, style := r.line(now, bar), ""
		if now.Sub(r.changed) < flash {
			text, style = text+"  swapped", "1;32"
		}
		line(style, text)
	}
	t.drawn = len(t.rows) + 1
	fmt.Print(out.String())
}

func (r *liveRow) line(now time.Time, width int) string {
	if r.id == "" {
		return r.pod
	}
	age, life := max(0, now.Sub(r.received)), r.due.Sub(r.received)
	full := min(width, int(int64(age)*int64(width)/int64(life)))
	bar := strings.Repeat("#", full) + strings.Repeat(".", width-full)
	return fmt.Sprintf("%-*s  %-*s  %-.8s…  [%s]%3.0fs %3d",
		podWidth, r.pod, whoWidth, r.who, r.id, bar, max(0, (life-age).Seconds()), r.rotations)
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
