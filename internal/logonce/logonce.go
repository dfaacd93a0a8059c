// Package logonce decides whether a problem is the one that was logged before.
package logonce

import "regexp"

// passing is what differs from one attempt at the same thing to the next: the
// local port of a connection, a moment, a span of time, the name of a generation.
var passing = regexp.MustCompile(`:[0-9]+->|` +
	`\.\.[0-9_]{19}\.[0-9]+|` +
	`[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9:]+)?|` +
	`\b([0-9.]+(h|m|s|ms|µs|us|ns))+\b`)

// Same says whether two texts tell of the same problem: they do if they differ
// only in local ports, in moments and in spans of time.
func Same(a, b string) bool {
	return passing.ReplaceAllLiteralString(a, "#") == passing.ReplaceAllLiteralString(b, "#")
}
