//go:build faults

package faults

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/kubernetes/pkg/volume/util"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

var swaps = flag.Int("swaps", 20_000, "how many swaps the readers see")

// readersGrace is short, so that the test is; what takes a reader longer than
// that, because it was not scheduled, is counted as slow and not as an error.
const readersGrace = 3 * time.Millisecond

// sizes of the files that are swapped: more than a page.
var readerFiles = map[string]int{"token": 900, "ca.crt": 6000, "namespace": 10}

// content is one letter many times, so that a torn file shows.
func content(n, size int) []byte { return bytes.Repeat([]byte{'a' + byte(n%26)}, size) }

// readerCounts is what readers saw.
type readerCounts struct{ reads, torn, mixed, errs, slow atomic.Int64 }

// whole counts a reading and returns the letter that it is made of.
func (c *readerCounts) whole(b []byte, size int) byte {
	c.reads.Add(1)
	if len(b) != size || bytes.Count(b, b[:1]) != size {
		c.torn.Add(1)
		return 0
	}
	return b[0]
}

func (c *readerCounts) failed(err error, began time.Time, grace time.Duration) {
	if grace > 0 && time.Since(began) >= grace && errors.Is(err, os.ErrNotExist) {
		c.slow.Add(1)
		return
	}
	c.errs.Add(1)
}

// byPath reads each file by the name that programs open.
func (c *readerCounts) byPath(dir string, grace time.Duration) {
	for name, size := range readerFiles {
		began := time.Now()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			c.failed(err, began, grace)
			continue
		}
		c.whole(b, size)
	}
}

// byDescriptor opens a file, and reads it some time later.
func (c *readerCounts) byDescriptor(dir string, grace time.Duration) {
	began := time.Now()
	f, err := os.Open(filepath.Join(dir, "ca.crt"))
	if err != nil {
		c.failed(err, began, grace)
		return
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, readerFiles["ca.crt"])
	half, err := f.ReadAt(b[:len(b)/2], 0)
	if err == nil {
		var rest int
		rest, err = f.ReadAt(b[half:], int64(half))
		half += rest
	}
	if err != nil {
		c.failed(err, began, 0)
		return
	}
	c.whole(b[:half], readerFiles["ca.crt"])
}

// bySet opens the current generation once, and its files relative to it.
func (c *readerCounts) bySet(dir string, grace time.Duration) {
	began := time.Now()
	set, err := os.OpenRoot(filepath.Join(dir, "..data"))
	if err != nil {
		c.failed(err, began, grace)
		return
	}
	defer func() { _ = set.Close() }()
	var letters [256]int
	for name, size := range readerFiles {
		b, err := set.ReadFile(name)
		if err != nil {
			c.failed(err, began, grace)
			return
		}
		letters[c.whole(b, size)]++
	}
	kinds := 0
	for _, n := range letters {
		if n > 0 {
			kinds++
		}
	}
	if kinds != 1 {
		c.mixed.Add(1)
	}
}

// watch has eight readers read while swap is called, again and again.
func watch(t *testing.T, name, dir string, grace, pace time.Duration, swap func(n int) error) *readerCounts {
	t.Helper()
	if err := swap(0); err != nil {
		t.Fatal(err)
	}
	c := &readerCounts{}
	var stop atomic.Bool
	var readers sync.WaitGroup
	for i := range 8 {
		read := []func(string, time.Duration){c.byPath, c.byDescriptor, c.bySet}[i%3]
		readers.Go(func() {
			for !stop.Load() {
				read(dir, grace)
				time.Sleep(50 * time.Microsecond) // or eight that spin keep two processors from everybody
			}
		})
	}
	for n := range *swaps {
		if err := swap(n + 1); err != nil {
			t.Error(err)
			break
		}
		if pace > 0 {
			time.Sleep(pace) // the pace is what is tested
		}
	}
	stop.Store(true)
	readers.Wait()
	fmt.Printf("RESULT %s swaps=%d grace_ms=%d reads=%d torn=%d mixed=%d errors=%d slow=%d\n", name, *swaps, grace.Milliseconds(),
		c.reads.Load(), c.torn.Load(), c.mixed.Load(), c.errs.Load(), c.slow.Load())
	return c
}

// TestReaders: whoever reads while the volume is swapped gets whole files, and
// whole sets; with a grace, also no error.
func TestReaders(t *testing.T) {
	ours := func(grace time.Duration) (string, func(n int) error) {
		dir := shm(t)
		d := atomicdir.New(dir, atomicdir.WithGrace(grace))
		return dir, func(n int) error {
			var files []atomicdir.File
			for name, size := range readerFiles {
				files = append(files, atomicdir.File{Path: name, Data: content(n, size), Mode: 0644})
			}
			_, err := d.Publish(files)
			return err
		}
	}
	dir, swap := ours(readersGrace)
	// As fast as old generations may stay for their whole grace: three do.
	c := watch(t, "atomicdir_readers", dir, readersGrace, readersGrace/3, swap)
	if c.torn.Load() != 0 || c.mixed.Load() != 0 || c.errs.Load() != 0 || c.reads.Load() < int64(*swaps) {
		t.Errorf("with a grace: %d torn, %d mixed, %d errors in %d reads", c.torn.Load(), c.mixed.Load(), c.errs.Load(), c.reads.Load())
	}

	dir, swap = ours(0)
	c = watch(t, "atomicdir_readers", dir, 0, 0, swap)
	if c.torn.Load() != 0 || c.mixed.Load() != 0 {
		t.Errorf("without a grace: %d torn, %d mixed", c.torn.Load(), c.mixed.Load())
	}

	dir = shm(t)
	kubelet, err := util.NewAtomicWriter(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	watch(t, "atomicdir_readers_kubelet", dir, 0, 0, func(n int) error {
		payload := map[string]util.FileProjection{}
		for name, size := range readerFiles {
			payload[name] = util.FileProjection{Data: content(n, size), Mode: 0644}
		}
		return kubelet.Write(payload, nil)
	})
}
