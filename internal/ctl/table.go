package ctl

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Widths of tables, in characters.
const (
	gap       = "  " // between columns
	minColumn = 6    // what a column keeps when there is too little room
)

// layOut makes lines of rows with columns of equal width. With width above 0 no line is
// longer: the widest columns are shortened first. All rows have as many cells.
func layOut(rows [][]string, width int) []string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := len(gap) * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; width > 0 && total > width && slices.Max(widths) > minColumn; total-- {
		widths[slices.Index(widths, slices.Max(widths))]--
	}
	lines := make([]string, len(rows))
	for i, row := range rows {
		var line strings.Builder
		for j, cell := range row {
			cell = shorten(cell, widths[j])
			line.WriteString(cell)
			if j < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell)) + gap)
			}
		}
		lines[i] = strings.TrimRight(line.String(), " ")
		if width > 0 {
			lines[i] = cut(lines[i], width)
		}
	}
	return lines
}

// shorten takes out of the middle: the names of Pods and of injected volumes differ at
// their ends.
func shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	head := (width - 1) / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-1-head):])
}

// cut keeps a line from wrapping.
func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:width])
	}
	return line
}
