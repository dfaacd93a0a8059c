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
// itself. It needs Linux 5.8 or newer (openat2, utimensat by descriptor); elsewhere every call fails
// with errors.ErrUnsupported.
//
// # Readers
//
// One open of <volume>/token gives one whole file, old or new. A program that
// opens the directory <volume>/..data once, and its files relative to that,
// gets one consistent set. An old generation stays for a grace after the swap,
// so that neither finds a file gone in the middle: see [WithGrace].
//
// # Hostile content
//
// The volume's content is taken for hostile. Every operation is relative to a
// descriptor of the volume, follows no symbolic link and crosses no mount; a
// "..data" that does not name a generation is replaced and never followed.
// Nothing is ever written into a file that exists, nor is its mode or owner
// changed; a file with a second hard link is replaced. openat2 with its checks
// costs no more than openat. What healing costs: of the 33 system calls of a
// publish of three files, five look at the links and for leftovers, a tenth of
// its 25 microseconds; finding that nothing changed costs 11 microseconds,
// because bytes, modes and owners are read from the disk each time (make bench).
//
// # Durability
//
// Nothing is synced by default. A volume on tmpfs is gone with the machine; one
// on a disk may come back from a power failure with files cut short, which the
// next Publish finds and repairs. [WithSync] is for volumes that must be whole
// before anything publishes again.
package atomicdir

import (
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// The writer's own names in a volume.
const (
	dataLink    = "..data"
	dataLinkTmp = "..data_tmp"
)

// A generation's name is what the kubelet's mkdtemp makes: a UTC time and a
// decimal number.
const (
	generationLayout  = "..2006_01_02_15_04_05."
	maxGenerationName = len(generationLayout) + 20
)

// IsGeneration says whether a name in a volume is that of a generation. It is
// asked of each name in each pass, which is too often for a regular expression.
func IsGeneration(name string) bool {
	if len(name) <= len(generationLayout) || len(name) > maxGenerationName {
		return false
	}
	for i := range len(name) {
		digit := name[i] >= '0' && name[i] <= '9'
		if i < len(generationLayout) && (generationLayout[i] < '0' || generationLayout[i] > '9') {
			if name[i] != generationLayout[i] {
				return false
			}
		} else if !digit {
			return false
		}
	}
	return true
}

// newGeneration makes a name for a generation. Later ones sort after earlier ones, as far
// as the clock goes forward; what is random is for those of one moment.
func newGeneration(now time.Time) string {
	var buf [maxGenerationName]byte
	name := now.UTC().AppendFormat(buf[:0], generationLayout+"000000000")
	return string(strconv.AppendUint(name, uint64(rand.Uint32()), 10))
}

// Dir is one volume's directory. It holds no descriptor, so it outlives a
// remount. It remembers a digest of what it published, to know a change
// without reading, and never relies on it to know that nothing changed; a new
// Dir on a published volume does everything that the old one did. Calls on one
// volume must not overlap, whatever Dir or process they are made by; different
// volumes are independent. The zero value is not usable; see New.
type Dir struct {
	path  string
	group int
	user  int // of the process
	grace time.Duration
	sync  bool
	// mountPoints are paths of directories.
	mountPoints []string
	memory
}

// DefaultGrace is how long an old generation stays.
const DefaultGrace = 5 * time.Second

// maxKept is how many old generations stay at most, however fast the volume
// is published.
const maxKept = 3

// Option changes a Dir.
type Option func(*Dir)

// WithGroup gives the volume to a group, as a Pod's fsGroup does: the volume's
// directory and everything that is created in it belong to gid, and
// directories get the setgid bit. The default is to leave groups alone.
func WithGroup(gid int) Option { return func(d *Dir) { d.group = gid } }

// WithGrace sets how long an old generation stays after the swap, for readers
// that are in the middle of a path or of a set. The default is DefaultGrace;
// with 0 it is removed at once, as the kubelet does. At most three stay,
// and none if there is no space for a new one. That an old token can be read
// for some seconds more gives nobody anything: it was readable a moment ago,
// and the API server goes on accepting it until it expires.
func WithGrace(grace time.Duration) Option { return func(d *Dir) { d.grace = grace } }

// WithSync writes everything to the disk, in this order: each file, the
// generation's directories, the volume's directory, and after the swap the
// volume's directory again, before anything old is removed. After a power
// failure the volume then holds the whole old set or the whole new one. It
// costs a disk's flush for each file.
func WithSync() Option { return func(d *Dir) { d.sync = true } }

// WithMountPoints has these directories in the volume, relative to it, for
// others to mount on. They are not part of the set, and nothing in them is
// touched until Wipe.
func WithMountPoints(paths ...string) Option { return func(d *Dir) { d.mountPoints = paths } }

// New returns the volume at path, which must exist as a directory by the time
// of the first call. The directories above it must be the caller's own.
func New(path string, options ...Option) *Dir {
	d := &Dir{path: path, group: -1, user: os.Geteuid(), grace: DefaultGrace}
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
	// SweepAt is when the grace of an old generation ends; call Sweep or
	// Publish then. Zero: there is nothing to sweep.
	SweepAt time.Time
	// Foreign are names at the top of the volume that are not the writer's, a
	// few if there are many. They are left alone.
	Foreign []string
}
