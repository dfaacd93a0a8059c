package atomicdir

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// canaryHash is of everything below a directory but the counts of hard links and
// ctime, which whoever may link to a file changes.
func canaryHash(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	check(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(h, p, st.Ino, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim)
		if e.Type().IsRegular() {
			b, err := os.ReadFile(p)
			h.Write(b)
			return err
		}
		return nil
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

func newCanary(t *testing.T, base string) string {
	t.Helper()
	canary := filepath.Join(base, "canary")
	for _, dir := range []string{"", "dir", "dir/sub", "..2020_01_01_00_00_00.1"} {
		check(t, os.Mkdir(filepath.Join(canary, dir), 0750))
		for _, file := range []string{"token", "ca.crt", "file"} {
			check(t, os.WriteFile(filepath.Join(canary, dir, file), []byte("outside"), 0640))
		}
	}
	return canary
}

// attacker is a workload that may write into its volume, and only there: it
// plants at names of its own and moves that by descriptors, so that it does not
// fall into the traps that it sets.
type attacker struct {
	volume, canary string
	root           int // the volume
	number         uint64
	random         *rand.Rand
	moves          *atomic.Int64 // that succeeded
	exchanges      *atomic.Int64
}

// strike does one thing to the volume. It fails often, because the publisher
// moves the ground under it.
func (a attacker) strike() {
	pick := func(s ...string) string { return s[a.random.IntN(len(s))] }
	victim := pick(dataLink, dataLinkTmp, "token", "ca.crt", "dir", "dir/sub", "dir/sub/file")
	if current, err := currentGeneration(a.root); err == nil && current != "" && a.random.IntN(2) == 0 {
		victim = current + "/" + victim
		if a.random.IntN(4) == 0 {
			victim = current
		}
	}
	evilName := fmt.Sprintf("..2020_01_01_00_00_00.%d", a.number)
	evil := filepath.Join(a.volume, evilName)
	_ = os.RemoveAll(evil)
	var err error
	switch a.random.IntN(8) {
	case 0:
		err = os.Symlink(filepath.Join(a.canary, pick("", "dir", "token", "..2020_01_01_00_00_00.1", "nothing")), evil)
	case 1:
		err = os.Link(filepath.Join(a.canary, pick("token", "file", "dir/token")), evil)
	case 2:
		err = syscall.Mkfifo(evil, 0666)
	case 3:
		err = os.WriteFile(evil, []byte("planted"), 0666)
	case 4:
		err = os.MkdirAll(filepath.Join(evil, "a/b/c"), 0777)
	case 5:
		if err = os.Mkdir(evil, 0777); err == nil {
			err = os.Symlink(a.canary, filepath.Join(evil, pick("dir", "token", "sub")))
		}
	case 6:
		err = os.Symlink("../"+filepath.Base(a.canary), evil)
	case 7:
		err = os.MkdirAll(filepath.Join(evil, strings.Repeat("d/", 100)), 0777)
	}
	if err != nil {
		return
	}
	parent, err := openDirIn(a.root, filepath.Dir(victim))
	if err != nil {
		return
	}
	defer closeFD(parent)
	name := filepath.Base(victim)
	if a.random.IntN(2) == 0 {
		if unix.Renameat2(a.root, evilName, parent, name, unix.RENAME_EXCHANGE) == nil {
			a.exchanges.Add(1)
		}
		return
	}
	_ = unlink(parent, name)
	if unix.Renameat(a.root, evilName, parent, name) == nil {
		a.moves.Add(1)
	}
}

var hostilePublishes = flag.Int("hostile-publishes", 300, "how often TestHostileWorkload publishes; make faults does it 10,000 times")

// shm makes a directory on tmpfs.
func shm(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "atomicdir-test-") //nolint:usetesting // TempDir may lie on a disk
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(base)) })
	return base
}

// TestHostileWorkload publishes while a workload plants and exchanges what it
// can in a loop. Publishes may fail then; none may block or touch anything
// outside, and when it is over the next one puts all right.
func TestHostileWorkload(t *testing.T) {
	base := shm(t)
	dir, canary := filepath.Join(base, "volume"), newCanary(t, base)
	check(t, os.Mkdir(dir, 0755))
	before := canaryHash(t, canary)

	var moves, exchanges atomic.Int64
	var stop atomic.Bool
	var attackers sync.WaitGroup
	for number := range uint64(2) {
		root, err := openVolume(dir)
		check(t, err)
		a := attacker{dir, canary, root, number, rand.New(rand.NewPCG(number, 1)), &moves, &exchanges}
		attackers.Go(func() {
			defer closeFD(root)
			for !stop.Load() {
				a.strike()
			}
		})
	}
	d := New(dir, WithGrace(time.Millisecond))
	failed := 0
	longest := time.Duration(0)
	publishes := 0
	began := time.Now()
	// Until the workload has done something too; the bound is for one that can't.
	busy := func() bool { return moves.Load() >= 100 && exchanges.Load() >= 100 || time.Since(began) > time.Minute }
	for n := 0; n < *hostilePublishes || !busy(); n++ {
		publishes++
		start := time.Now()
		if _, err := d.Publish(payload(fmt.Sprint(n))); err != nil {
			failed++
		}
		longest = max(longest, time.Since(start))
		if n%100 == 0 {
			_, _ = d.Read() // must not block either
			_, _ = d.Sweep()
		}
	}
	stop.Store(true)
	attackers.Wait()
	outside := 0
	if canaryHash(t, canary) != before {
		outside = 1
		t.Error("something outside the volume was changed")
	}
	fmt.Printf("RESULT atomicdir_hostile publishes=%d failed=%d longest_ms=%d moves=%d exchanges=%d outside=%d\n",
		publishes, failed, longest.Milliseconds(), moves.Load(), exchanges.Load(), outside)
	if longest > 10*time.Second {
		t.Error("a publish hung")
	}
	if moves.Load() < 100 || exchanges.Load() < 100 {
		t.Error("the workload hardly did anything")
	}

	publish(t, dir, payload("last"))
	assertTree(t, dir, published("last"))
}

// TestDeepTree: a tree deeper than a process has descriptors, and than a path
// can name, is removed.
func TestDeepTree(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, payload("one"))
	for _, name := range []string{"..2020_01_01_00_00_00.1", "token"} {
		plantDeep(t, filepath.Join(dir, name), 3000)
	}
	publish(t, dir, payload("one"))
	assertTree(t, dir, published("one"))
	plantDeep(t, filepath.Join(dir, "theirs"), 3000)
	check(t, New(dir).Wipe())
	assertTree(t, dir, nil)
}

// plantDeep makes directories in each other, in the place of what is there.
func plantDeep(t *testing.T, path string, depth int) {
	t.Helper()
	check(t, os.RemoveAll(path))
	check(t, os.Mkdir(path, 0755))
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	check(t, err)
	for range depth {
		check(t, unix.Mkdirat(fd, "d", 0755))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		check(t, err)
		check(t, unix.Close(fd))
		fd = next
	}
	check(t, unix.Close(fd))
}

// TestHardLinkIsReplaced: a file with another name, through which it could be
// changed, is not taken for ours, even if it holds the right bytes.
func TestHardLinkIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	check(t, os.Mkdir(dir, 0755))
	publish(t, dir, payload("one"))
	other := filepath.Join(filepath.Dir(dir), "other")
	token, err := filepath.EvalSymlinks(filepath.Join(dir, "token"))
	check(t, err)
	check(t, os.Link(token, other))
	if r := publish(t, dir, payload("one")); !r.Changed {
		t.Error("a hard link to the file is no change")
	}
	check(t, os.WriteFile(other, []byte("forged"), 0600))
	assertTree(t, dir, published("one"))
}

func TestForeignNamesAreReported(t *testing.T) {
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "theirs"), 0755))
	check(t, os.WriteFile(filepath.Join(dir, "..odd"), nil, 0644))
	check(t, os.Symlink("..data/another", filepath.Join(dir, "link")))
	check(t, os.Symlink("..data/obsolete", filepath.Join(dir, "obsolete")))
	r := publish(t, dir, payload("one"))
	if got, want := fmt.Sprint(r.Foreign), "[..odd link theirs]"; got != want {
		t.Errorf("foreign names %s, want %s", got, want)
	}
}
