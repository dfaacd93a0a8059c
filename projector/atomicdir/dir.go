// Package atomicdir publishes a set of files into a directory as one atomic
// change: a reader sees the whole old set or the whole new one.
//
// It writes the layout of the kubelet's AtomicWriter
// (pkg/volume/util/atomic_writer.go), so whatever reads or watches a
// projected volume reads and watches this:
//
//	<volume>/..2026_11_22_17_30_00.123456789/token   the files, in a generation
//	<volume>/..data  -> ..2026_11_22_17_30_00.123456789   swapped by rename(2)
//	<volume>/token   -> ..data/token                      what programs open
//
// It does not mount, does not know what the files mean and runs nothing by
// itself. It needs Linux 5.6 or newer (openat2); elsewhere every call fails
// with errors.ErrUnsupported.
//
// The volume's content is taken for hostile. Every operation is relative to a
// descriptor of the volume, follows no symbolic link and crosses no mount; a
// "..data" that does not name a generation is replaced and never followed.
// Nothing is ever written into a file that exists.
//
// Nothing is synced: a volume on tmpfs is gone with the machine, and one on a
// disk is repaired by the next publish.
package atomicdir

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"time"
)

// The writer's own names in a volume.
const (
	dataLink    = "..data"
	dataLinkTmp = "..data_tmp"
)

// generationPattern is what the kubelet's mkdtemp makes: a UTC time and a
// decimal number.
var generationPattern = regexp.MustCompile(`^\.\.\d{4}_\d{2}_\d{2}_\d{2}_\d{2}_\d{2}\.\d{1,20}$`)

// IsGeneration says whether a name in a volume is that of a generation.
func IsGeneration(name string) bool { return generationPattern.MatchString(name) }

// newGeneration makes a name for a generation.
func newGeneration(now time.Time) string {
	return fmt.Sprintf("..%s.%d", now.UTC().Format("2006_01_02_15_04_05"), rand.Uint32())
}

// Dir is one volume's directory. It holds no descriptor and no state, so it
// outlives a remount. Calls on one volume must not overlap, whatever Dir or
// process they are made by; different volumes are independent. The zero value
// is not usable; see New.
type Dir struct {
	path  string
	group int
}

// Option changes a Dir.
type Option func(*Dir)

// WithGroup gives the volume to a group, as a Pod's fsGroup does: the volume's
// directory and everything that is created in it belong to gid, and
// directories get the setgid bit. The default is to leave groups alone.
func WithGroup(gid int) Option { return func(d *Dir) { d.group = gid } }

// New returns the volume at path, which must exist as a directory by the time
// of the first call. The directories above it must be the caller's own.
func New(path string, options ...Option) *Dir {
	d := &Dir{path: path, group: -1}
	for _, o := range options {
		o(d)
	}
	return d
}

// Result says what Publish did.
type Result struct {
	// Generation is the name of the directory that now holds the files.
	Generation string
	// Changed says that a new generation was written.
	Changed bool
}
