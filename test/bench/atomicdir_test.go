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

// rounds of each writer, alternating, so that what disturbs one disturbs the
// other.
const rounds = 2000

// BenchmarkAtomicdirPublish publishes token, ca.crt and namespace with all
// three changed, the removal of the old generation included, beside the
// kubelet's own AtomicWriter. It runs on /dev/shm, which is a tmpfs.
func BenchmarkAtomicdirPublish(b *testing.B) {
	base, err := os.MkdirTemp("/dev/shm", "projectord-bench-") //nolint:usetesting // b.TempDir may lie on a disk
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(base) }()
	ours, theirs := filepath.Join(base, "ours"), filepath.Join(base, "theirs")
	for _, dir := range []string{ours, theirs} {
		if err := os.Mkdir(dir, 0755); err != nil {
			b.Fatal(err)
		}
	}
	kubelet, err := util.NewAtomicWriter(theirs, "bench")
	if err != nil {
		b.Fatal(err)
	}
	own := atomicdir.New(ours)
	for b.Loop() {
		var ourTimes, theirTimes []time.Duration
		for n := range rounds {
			content := func(size int) []byte {
				return fmt.Appendf(nil, "%-*d", size, n)
			}
			files := []atomicdir.File{
				{Path: "token", Data: content(900), Mode: 0644},
				{Path: "ca.crt", Data: content(1100), Mode: 0644},
				{Path: "namespace", Data: content(12), Mode: 0644},
			}
			payload := map[string]util.FileProjection{}
			for _, f := range files {
				payload[f.Path] = util.FileProjection{Data: f.Data, Mode: int32(f.Mode)}
			}
			start := time.Now()
			if _, err := own.Publish(files); err != nil {
				b.Fatal(err)
			}
			middle := time.Now()
			if err := kubelet.Write(payload, nil); err != nil {
				b.Fatal(err)
			}
			ourTimes = append(ourTimes, middle.Sub(start))
			theirTimes = append(theirTimes, time.Since(middle))
		}
		a, k := median(ourTimes), median(theirTimes)
		fmt.Printf("RESULT atomicdir_publish ratio=%.2f us=%.0f kubelet_us=%.0f\n",
			float64(a)/float64(k), float64(a)/1e3, float64(k)/1e3)
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
