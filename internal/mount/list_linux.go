package mount

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// List returns where a tmpfs of ours is mounted, in the order of mounting. It reads
// all mounts of the machine, so it is not for a pass over one volume.
func List() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	var points []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		// See proc_pid_mountinfo(5): after a lone dash come type and source.
		left, right, found := strings.Cut(lines.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if found && len(before) > 4 && len(after) > 1 && after[0] == "tmpfs" && after[1] == Source {
			points = append(points, unescape(before[4]))
		}
	}
	return points, nil
}

// unescape undoes what the kernel does to white space and backslashes, as \040.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(b))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
