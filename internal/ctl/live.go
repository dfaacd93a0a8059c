package ctl

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/token-projector/token-projector/internal/inspect"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// liveTable is a table on a terminal that is drawn again and again.
type liveTable struct {
	now    func() time.Time
	colour bool

	mu      sync.Mutex
	known   *tracker
	synced  bool
	waiting error // why there are no events
}

const (
	frameTime = 250 * time.Millisecond
	flash     = 2 * time.Second // how long a rotation stands out
	minBar    = 10
	maxBar    = 30
)

// What tells a terminal to use a screen of its own, which leaves what was on it alone
// and does not mind being resized, and to draw over what is there.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	endOfLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

func (t *liveTable) event(event *api.WatchVolumesResponse) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known.apply(event, t.now())
	t.synced = t.synced || event.GetType() == api.EventType_EVENT_TYPE_INITIAL_SYNC_COMPLETE
	t.waiting = nil
	return nil
}

func (t *liveTable) lost(why error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known.gap()
	t.waiting = why
	return nil
}

// run draws until ctx ends, and leaves the last state behind. Before there is
// something to show it leaves the terminal alone, for an error that comes at once.
func (t *liveTable) run(ctx context.Context, out io.Writer) {
	ticker := time.NewTicker(frameTime)
	defer ticker.Stop()
	entered := false
	for {
		select {
		case <-ctx.Done():
			if entered {
				s, _ := terminal(out)
				_, _ = fmt.Fprintln(out, leaveScreen+strings.Join(t.lines(s), "\n"))
			}
			return
		case <-ticker.C:
		}
		if !t.ready() {
			continue
		}
		if !entered {
			_, _ = io.WriteString(out, enterScreen)
			entered = true
		}
		s, _ := terminal(out)
		_, _ = io.WriteString(out, toTop+strings.Join(t.lines(s), endOfLine+"\n")+endOfLine+clearBelow)
	}
}

func (t *liveTable) ready() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.synced
}

// lines are the table for a screen of this size, and never more than fit.
func (t *liveTable) lines(s size) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	volumes := t.known.sorted()
	room := max(1, s.rows-2) // without the heading and the last line
	left := max(0, len(volumes)-room)
	volumes = volumes[:len(volumes)-left]

	cells := [][]string{{"POD", "VOLUME", "PHASE", "TOKENS", "NEXT ROTATION"}}
	for _, v := range volumes {
		cells = append(cells, []string{podText(v.Volume), v.GetId().GetVolumeName(), phaseText(v.Volume),
			strconv.Itoa(len(v.GetTokens())), nextText(v.Volume, now)})
	}
	const bracketed = len("[]  ")
	laidOut := layOut(cells, max(1, s.columns-bracketed-minBar))
	widest := 0
	for _, line := range laidOut {
		widest = max(widest, len([]rune(line)))
	}
	bar := max(minBar, min(maxBar, s.columns-widest-bracketed))
	lines := []string{t.styled("1", laidOut[0])}
	for i, v := range volumes {
		text := fmt.Sprintf("%-*s  %s", widest, laidOut[i+1], barOf(v.Volume, now, bar))
		lines = append(lines, t.styled(style(v, now), strings.TrimRight(cut(text, s.columns), " ")))
	}
	switch {
	case t.waiting != nil:
		lines = append(lines, t.styled("1;31", cut("waiting: "+inspect.Printable(t.waiting.Error()), s.columns)))
	case left > 0:
		lines = append(lines, cut(fmt.Sprintf("and %d more: projectorctl list", left), s.columns))
	case len(volumes) == 0:
		lines = append(lines, "no volumes")
	}
	return lines
}

// barOf shows how much of the time between two rotations has passed. The time of issue
// is the API server's: a clock that is off makes the bar wrong, and nothing else.
func barOf(v *api.Volume, now time.Time, width int) string {
	next := nextToken(v)
	if next == nil {
		return ""
	}
	issued, due := next.GetIssuedAt().AsTime(), next.GetRotateAt().AsTime()
	full := width
	if life := due.Sub(issued); life > 0 {
		full = max(0, min(width, int(float64(width)*float64(now.Sub(issued))/float64(life))))
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}

// style marks what has just been rotated, and what fails.
func style(v *tracked, now time.Time) string {
	switch {
	case !v.rotatedAt.IsZero() && now.Sub(v.rotatedAt) < flash:
		return "1;32"
	case v.GetPhase() == api.Phase_PHASE_DEGRADED || v.GetPhase() == api.Phase_PHASE_PENDING:
		return "31"
	}
	return ""
}

func (t *liveTable) styled(style, text string) string {
	if !t.colour || style == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
