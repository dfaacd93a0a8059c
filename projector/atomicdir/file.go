package atomicdir

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"
)

// File is one file of a volume. It is a value; Data must not be changed while
// it is in use.
type File struct {
	// Path is relative to the volume and uses slashes, such as "token" or
	// "certs/ca.crt".
	Path string
	// Data is the whole content, possibly empty.
	Data []byte
	// Mode holds permission bits only, and is set exactly, whatever the umask.
	Mode fs.FileMode
	// Owner is set if it is not nil; otherwise the file belongs to the process
	// and to the group that its directory gives it.
	Owner *Owner
	// ModTime is set if it is not zero. It is not part of the comparison that
	// decides whether a payload has changed.
	ModTime time.Time
}

// Format implements fmt.Formatter: a file shows its path, mode and size and
// never its content, which may be a credential.
func (f File) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, f.summary())
}

// MarshalText implements encoding.TextMarshaler, which encoding/json uses too,
// and shows what Format shows.
func (f File) MarshalText() ([]byte, error) { return []byte(f.summary()), nil }

// LogValue implements slog.LogValuer and shows what Format shows.
func (f File) LogValue() slog.Value { return slog.StringValue(f.summary()) }

func (f File) summary() string { return fmt.Sprintf("%s %s %d bytes", f.Path, f.Mode, len(f.Data)) }

// Owner is a numeric owner and group; -1 leaves one as it is.
type Owner struct{ UID, GID int }

// Set is a published payload as it lies on disk.
type Set struct {
	// Generation is the name of the directory that holds the files, without a
	// path; empty if nothing has been published.
	Generation string
	// Files are sorted by path. Their Owner is never nil.
	Files []File
}

// File returns the file at path; ok is false if there is none.
func (s Set) File(path string) (f File, ok bool) {
	for _, f := range s.Files {
		if f.Path == path {
			return f, true
		}
	}
	return File{}, false
}
