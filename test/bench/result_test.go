package bench

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

// missed says what a time above its limit does. Times depend on the machine
// and on what else it does; a size or a count above its limit always fails.
var missed = flag.String("missed", "fail", "what a time above its limit does: fail, or report")

// figure is one key of a RESULT line, with its limit if it has one.
type figure struct {
	key, format string
	value       float64
	limit       float64
	limited     bool
	isTime      bool
	text        string // of a label, in the place of a value
}

// label is a key with a text.
func label(key, text string) figure { return figure{key: key, text: text} }

func fig(key, format string, value float64) figure {
	return figure{key: key, format: format, value: value}
}

// atMost gives a size or a count its limit.
func (f figure) atMost(limit float64) figure {
	f.limit, f.limited = limit, true
	return f
}

// within gives a time, or a ratio of two, its limit.
func (f figure) within(limit float64) figure {
	f.limit, f.limited, f.isTime = limit, true, true
	return f
}

// result prints a RESULT line, and a MISSED line for each figure above its
// limit.
func result(b *testing.B, name string, figures ...figure) {
	b.Helper()
	line := "RESULT " + name
	var over []string
	for _, f := range figures {
		if f.text != "" {
			line += " " + f.key + "=" + f.text
			continue
		}
		text := fmt.Sprintf(f.format, f.value)
		line += " " + f.key + "=" + text
		// As it is printed: 0.50 is not above 0.5.
		printed, err := strconv.ParseFloat(text, 64)
		if err != nil {
			b.Fatal(err)
		}
		if !f.limited || printed <= f.limit {
			continue
		}
		over = append(over, fmt.Sprintf("MISSED %s %s=%s limit=%g", name, f.key, text, f.limit))
		if !f.isTime || *missed != "report" {
			b.Fail()
		}
	}
	_, _ = fmt.Fprintln(results, strings.Join(append([]string{line}, over...), "\n"))
}

var results io.Writer = os.Stdout

func TestResultFailsAboveALimit(t *testing.T) {
	defer func(w io.Writer, m string) { results, *missed = w, m }(results, *missed)
	results = io.Discard
	outcome := func(f figure) bool {
		return testing.Benchmark(func(b *testing.B) { result(b, "self_test", f) }).N == 0
	}
	for _, tt := range []struct {
		name string
		f    figure
		want bool
	}{
		{"no limit", fig("a", "%.0f", 9), false},
		{"above zero", fig("a", "%.0f", 1).atMost(0), true},
		{"at the limit", fig("a", "%.0f", 9).atMost(9), false},
		{"size above", fig("a", "%.0f", 9).atMost(8), true},
		{"time above", fig("a", "%.1f", 9).within(8), true},
		{"time above, reported", fig("a", "%.1f", 9).within(8), false},
		{"size above, never only reported", fig("a", "%.0f", 9).atMost(8), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			*missed = "fail"
			if strings.Contains(tt.name, "reported") {
				*missed = "report"
			}
			if got := outcome(tt.f); got != tt.want {
				t.Errorf("failed: %v, want %v", got, tt.want)
			}
		})
	}
}
