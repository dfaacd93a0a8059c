package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/token-projector/token-projector/internal/inspect"
)

// Print writes results for a person: those of the node, then those of each volume.
func Print(w io.Writer, results []Result) error {
	width := 0
	for _, r := range results {
		width = max(width, len(r.Check))
	}
	var out strings.Builder
	about := "-"
	for _, r := range results {
		if r.Volume != about {
			about = r.Volume
			if about == "" {
				out.WriteString("node\n")
			} else {
				fmt.Fprintf(&out, "volume %s\n", inspect.Printable(about))
			}
		}
		fmt.Fprintf(&out, "  %-4s  %-*s  %s\n", r.Status, width, r.Check, inspect.Printable(r.Text))
		if r.Advice != "" {
			fmt.Fprintf(&out, "  %-4s  %-*s  do: %s\n", "", width, "", inspect.Printable(r.Advice))
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}
