package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"k8s.io/kubernetes/pkg/volume/util"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// countedPublishes is how many publishes the syscalls of one are the mean of.
const countedPublishes = 1000

// countEnv makes this program publish instead of testing: "<writer> <times>".
const countEnv = "PROJECTORD_BENCH_PUBLISH"

// countSyscalls returns how many file-system calls a changing publish makes, by
// strace's count over this program: of many publishes less that of none.
func countSyscalls(b *testing.B, writer string) float64 {
	b.Helper()
	count := func(times int) int {
		self, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		out := filepath.Join(b.TempDir(), "calls")
		cmd := exec.CommandContext(b.Context(), "strace", "-f", "-c", "-U", "calls,name", "-o", out, "-e", "trace=%file,%desc", self)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", countEnv, writer, times))
		if text, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("counting syscalls (is strace installed?): %v\n%s", err, text)
		}
		table, err := os.ReadFile(out)
		if err != nil {
			b.Fatal(err)
		}
		total := 0
		for line := range bytes.Lines(table) {
			fields := strings.Fields(string(line))
			// The Go runtime's own are not the writer's.
			if len(fields) != 2 || strings.HasPrefix(fields[1], "epoll_") || fields[1] == "total" {
				continue
			}
			if n, err := strconv.Atoi(fields[0]); err == nil {
				total += n
			}
		}
		return total
	}
	return float64(count(countedPublishes+1)-count(1)) / countedPublishes
}

// publishCounted is what the program does under strace.
func publishCounted(order string) error {
	var writer string
	var times int
	if _, err := fmt.Sscan(order, &writer, &times); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/dev/shm", "projectord-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	own := atomicdir.New(dir, atomicdir.WithGrace(0))
	kubelet, err := util.NewAtomicWriter(dir, "bench")
	if err != nil {
		return err
	}
	for n := range times {
		files := injected(n)
		if writer == "ours" {
			_, err = own.Publish(files)
		} else {
			err = kubelet.Write(projection(files), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
