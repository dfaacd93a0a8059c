package mount

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Mount is one line of a mountinfo; see proc_pid_mountinfo(5).
type Mount struct {
	// Device is major:minor of the file system.
	Device string
	// Root is what of the file system is mounted, a directory or a file. It ends in
	// "//deleted" if that is no longer there.
	Root string
	// Point is where, by the root directory of the process.
	Point string
	// Type is the file system's, and Source what it is of.
	Type, Source string
}

// Parse reads a mountinfo, in the order of mounting.
func Parse(mountinfo []byte) []Mount {
	var mounts []Mount
	for lines := bufio.NewScanner(bytes.NewReader(mountinfo)); lines.Scan(); {
		left, right, found := strings.Cut(lines.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if found && len(before) > 4 && len(after) > 1 {
			mounts = append(mounts, Mount{
				Device: before[2], Root: unescape(before[3]), Point: unescape(before[4]), Type: after[0], Source: unescape(after[1]),
			})
		}
	}
	return mounts
}

// all are the mounts that this process sees.
func all() ([]Mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	return Parse(text), nil
}

func (m Mount) ours() bool { return m.Type == "tmpfs" && m.Source == Source }

// List returns where a tmpfs of ours is mounted, in the order of mounting. It reads
// all mounts of the machine, so it is not for a pass over one volume.
func List() ([]string, error) {
	mounts, err := all()
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range mounts {
		if m.ours() {
			points = append(points, m.Point)
		}
	}
	return points, nil
}

// At says what is mounted at a path itself: of us, and of somebody else on top of that
// or alone. It reads all mounts, as List does.
func At(path string) (ours, foreign bool, err error) {
	if mounted, err := IsMountPoint(path); err != nil || !mounted {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, false, err
	}
	mounts, err := all()
	if err != nil {
		return false, false, err
	}
	for _, m := range mounts {
		if m.Point != path {
			continue
		}
		foreign = !m.ours()
		ours = ours || !foreign
	}
	return ours, foreign, nil
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
