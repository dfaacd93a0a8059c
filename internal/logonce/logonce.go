// Package logonce decides whether a problem is the one that was logged before.
package logonce

import "regexp"

var digits = regexp.MustCompile(`[0-9]+`)

// Same says whether two texts tell of the same problem: they do if they differ
// only in numbers. Errors contain local ports, times and counts that are others
// at each attempt.
func Same(a, b string) bool {
	return digits.ReplaceAllLiteralString(a, "#") == digits.ReplaceAllLiteralString(b, "#")
}
