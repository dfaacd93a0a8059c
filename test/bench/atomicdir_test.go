// Package bench compares projectord with the kubelet, each figure against its
// peer in the same run: absolute times say more about the machine.
package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"k8s.io/kubernetes/pkg/volume/util"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// times of each writer in a round, alternating, so that what disturbs one
// disturbs the other; the best of three rounds counts.
const (
	writerRounds = 3
	writerTimes  = 1000
)

// writers are both writers, each on a directory of its own.
type writers struct {
	*testing.B
	dirs    [2]string
	own     *atomicdir.Dir
	kubelet *util.AtomicWriter
}

// newWriters uses a file system: /dev/shm is a tmpfs, and b.TempDir may be on a
// disk. There is no grace, so that both remove the old generation.
func newWriters(b *testing.B, base string) *writers {
	b.Helper()
	w := &writers{B: b, dirs: [2]string{filepath.Join(base, "ours"), filepath.Join(base, "theirs")}}
	for _, dir := range w.dirs {
		w.must(os.Mkdir(dir, 0755))
	}
	var err error
	w.own = atomicdir.New(w.dirs[0], atomicdir.WithGrace(0))
	w.kubelet, err = util.NewAtomicWriter(w.dirs[1], "bench")
	w.must(err)
	return w
}

func (w *writers) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// shm makes a directory on tmpfs.
func shm(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "projectord-bench-") //nolint:usetesting // b.TempDir may lie on a disk
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// injected is the payload of the volume that every Pod gets, and another one
// for each n. The token has a time, as projectord gives it one.
func injected(n int) []atomicdir.File {
	content := func(size int) []byte { return fmt.Appendf(nil, "%-*d", size, n) }
	return []atomicdir.File{
		{Path: "token", Data: content(900), Mode: 0644, ModTime: time.Unix(1_800_000_000, 0)},
		{Path: "ca.crt", Data: content(1100), Mode: 0644},
		{Path: "namespace", Data: content(12), Mode: 0644},
	}
}

// many is a large payload.
func many(n int) []atomicdir.File {
	files := make([]atomicdir.File, 1000)
	for i := range files {
		files[i] = atomicdir.File{Path: fmt.Sprintf("file-%03d", i), Data: fmt.Appendf(nil, "%-1024d", n), Mode: 0644}
	}
	return files
}

func projection(files []atomicdir.File) map[string]util.FileProjection {
	payload := make(map[string]util.FileProjection, len(files))
	for _, f := range files {
		payload[f.Path] = util.FileProjection{Data: f.Data, Mode: int32(f.Mode)}
	}
	return payload
}

// compare returns the median times of both writers for the payloads, in the
// round with the best ratio. before is done before each of our publishes.
func (w *writers) compare(times int, payload func(n int) []atomicdir.File, before func()) (ours, theirs time.Duration) {
	w.Helper()
	n := 0
	for range writerRounds {
		var own, kubelet []time.Duration
		for range times {
			n++
			files := payload(n)
			projected := projection(files)
			before()
			start := time.Now()
			_, err := w.own.Publish(files)
			middle := time.Now()
			w.must(err)
			w.must(w.kubelet.Write(projected, nil))
			own = append(own, middle.Sub(start))
			kubelet = append(kubelet, time.Since(middle))
		}
		a, k := percentile(own, 50), percentile(kubelet, 50)
		if theirs == 0 || ratio(a, k) < ratio(ours, theirs) {
			ours, theirs = a, k
		}
	}
	return ours, theirs
}

func nothing() {}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// BenchmarkAtomicdirPublish publishes token, ca.crt and namespace with all
// three changed, the removal of the old generation included, beside the
// kubelet's own AtomicWriter: on tmpfs and on b.TempDir's file system, in a
// process that published before, and with a Dir that knows nothing.
func BenchmarkAtomicdirPublish(b *testing.B) {
	w := newWriters(b, shm(b))
	ours, theirs := w.compare(writerTimes, injected, nothing)
	payloads := [2][]atomicdir.File{injected(1), injected(2)}
	turn := 0
	allocs := testing.AllocsPerRun(100, func() {
		turn++
		_, err := w.own.Publish(payloads[turn%2])
		w.must(err)
	})
	result(b, "atomicdir_publish", fig("ratio", "%.2f", ratio(ours, theirs)).within(0.55),
		fig("us", "%.0f", us(ours)), fig("kubelet_us", "%.0f", us(theirs)),
		fig("syscalls", "%.1f", countSyscalls(b, "ours")).atMost(33), fig("kubelet_syscalls", "%.1f", countSyscalls(b, "kubelet")),
		fig("allocs", "%.0f", allocs).atMost(30))

	w = newWriters(b, shm(b))
	ours, theirs = w.compare(writerTimes, injected, func() { w.own = atomicdir.New(w.dirs[0], atomicdir.WithGrace(0)) })
	result(b, "atomicdir_publish_restarted", fig("ratio", "%.2f", ratio(ours, theirs)).within(0.70),
		fig("us", "%.0f", us(ours)), fig("kubelet_us", "%.0f", us(theirs)))

	w = newWriters(b, b.TempDir())
	ours, theirs = w.compare(writerTimes, injected, nothing)
	result(b, "atomicdir_publish_disk", fig("ratio", "%.2f", ratio(ours, theirs)).within(1),
		fig("us", "%.0f", us(ours)), fig("kubelet_us", "%.0f", us(theirs)))
}

// BenchmarkAtomicdirUnchanged publishes what is there: bytes, modes and owners
// are compared with the disk.
func BenchmarkAtomicdirUnchanged(b *testing.B) {
	for _, fs := range []struct {
		name, base string
		limit      float64
	}{{"atomicdir_unchanged", shm(b), 0.5}, {"atomicdir_unchanged_disk", b.TempDir(), 0.6}} {
		w := newWriters(b, fs.base)
		ours, theirs := w.compare(writerTimes, func(int) []atomicdir.File { return injected(0) }, nothing)
		result(b, fs.name, fig("ratio", "%.2f", ratio(ours, theirs)).within(fs.limit),
			fig("us", "%.0f", us(ours)), fig("kubelet_us", "%.0f", us(theirs)))
	}
}

// BenchmarkAtomicdirMany publishes 1,000 changed files of 1 KiB.
func BenchmarkAtomicdirMany(b *testing.B) {
	w := newWriters(b, shm(b))
	ours, theirs := w.compare(30, many, nothing)
	result(b, "atomicdir_many", fig("ratio", "%.2f", ratio(ours, theirs)).within(0.67),
		fig("us", "%.0f", us(ours)), fig("kubelet_us", "%.0f", us(theirs)))
}

func percentile(d []time.Duration, p int) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[min(len(d)-1, len(d)*p/100)]
}
