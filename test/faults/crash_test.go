//go:build faults

// Package faults breaks things and looks whether they heal. Its tests take
// minutes and need root and strace; `make faults` runs them.
package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/token-projector/token-projector/test/faults/scenario"
)

var kills = flag.Int("kills", 500, "how many processes are killed at random times")

// errnos that a file system may give.
var errnos = []string{"EIO", "ENOSPC", "EDQUOT", "EROFS", "EPERM", "EACCES", "EMFILE", "EINTR"}

// trial is one fault in one scenario.
type trial struct {
	scenario scenario.Scenario
	call     point
	errno    string // empty: killed
	retry    bool   // with the same Dir
}

func (tr trial) String() string {
	return fmt.Sprintf("%s: %s %s retry=%v", tr.scenario.Name, tr.call, tr.errno, tr.retry)
}

// discover finds the points of each scenario in a trace of it.
func discover(t *testing.T, c child, base string) []trial {
	t.Helper()
	var trials []trial
	for _, s := range scenario.All {
		dir := newVolume(t, base, s)
		lines, err := c.traced(t.Context(), "act", s.Name, dir, "")
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		found := points(lines)
		if len(found) < 5 {
			t.Fatalf("%s: only %d calls between the marks", s.Name, len(found))
		}
		for _, p := range found {
			trials = append(trials, trial{scenario: s, call: p})
		}
	}
	return trials
}

var volumes atomic.Int64

// newVolume makes a volume as it is before a scenario.
func newVolume(t *testing.T, base string, s scenario.Scenario) string {
	t.Helper()
	dir := filepath.Join(base, fmt.Sprint("volume-", volumes.Add(1)))
	if err := os.Mkdir(dir, 0755); err != nil {
		t.Fatal(err)
	}
	if s.Setup != nil {
		if err := s.Setup(dir); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// undergo does one trial on a fresh volume and says what did not survive.
func (c child) undergo(t *testing.T, base string, tr trial) error {
	dir := newVolume(t, base, tr.scenario)
	defer func() { _ = os.RemoveAll(dir) }()
	fault := fmt.Sprintf("%s:signal=KILL:when=%d", tr.call.name, tr.call.when)
	if tr.errno != "" {
		fault = fmt.Sprintf("%s:error=%s:when=%d", tr.call.name, tr.errno, tr.call.when)
	}
	act := "act"
	if tr.retry {
		act = "retry"
	}
	lines, err := c.traced(t.Context(), act, tr.scenario.Name, dir, fault)
	if tr.errno == "" {
		last := len(lines) - 2
		if last < 0 || !strings.Contains(lines[last+1], "killed by SIGKILL") || callName(lines[last]) != tr.call.name {
			return fmt.Errorf("the kill did not hit the call; the trace ends with %q", lines[max(0, last):])
		}
	} else if !slices.ContainsFunc(lines, func(l string) bool { return callName(l) == tr.call.name && strings.Contains(l, "(INJECTED)") }) {
		return errors.New("the error did not hit the call")
	}
	closed := tr.call.name == "close" && tr.errno != "" // the call was not made, so the descriptor leaks
	switch {
	case closed:
		err = nil
	case err != nil && strings.Contains(err.Error(), "descriptors are open"):
		return err
	case err != nil && tr.errno == "EINTR":
		return fmt.Errorf("an interrupted call was not repeated: %w", err)
	case err != nil && tr.retry:
		return fmt.Errorf("it does not recover: %w", err)
	case err != nil && tr.errno != "" && strings.Count(err.Error(), ": ") < 2:
		return fmt.Errorf("the error does not name the step: %w", err)
	}
	if err := checkReaders(dir, tr.scenario, err == nil); err != nil {
		return err
	}
	if err := c.run(t.Context(), "recover", tr.scenario.Name, dir); err != nil {
		return fmt.Errorf("the next process fails: %w", err)
	}
	return checkRecovered(dir, tr.scenario)
}

// undergoAll does all trials, as many at once as there are processors, and
// returns how many survived.
func (c child) undergoAll(t *testing.T, base string, trials []trial, report func(tr trial, err error)) (survived int) {
	work := make(chan trial)
	var good atomic.Int64
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for tr := range work {
				if err := c.undergo(t, base, tr); err != nil {
					report(tr, err)
				} else {
					good.Add(1)
				}
			}
		})
	}
	for _, tr := range trials {
		work <- tr
	}
	close(work)
	wg.Wait()
	return int(good.Load())
}

func failed(t *testing.T) func(trial, error) {
	return func(tr trial, err error) { t.Errorf("%s: %v", tr, err) }
}

// shm makes a directory on tmpfs.
func shm(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "projectord-faults-") //nolint:usetesting // TempDir may lie on a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestCrash kills the writer at each system call of each scenario.
func TestCrash(t *testing.T) {
	c, base := buildChild(t, ""), shm(t)
	trials := discover(t, c, base)
	survived := c.undergoAll(t, base, trials, failed(t))
	fmt.Printf("RESULT atomicdir_crash points=%d survived=%d\n", len(trials), survived)
}

// TestErrno has each system call of each scenario fail, with each error.
func TestErrno(t *testing.T) {
	c, base := buildChild(t, ""), shm(t)
	var trials []trial
	for _, tr := range discover(t, c, base) {
		if tr.call.name == "faccessat" {
			continue // a mark
		}
		for _, errno := range errnos {
			tr.errno, tr.retry = errno, false
			trials = append(trials, tr)
			if errno == "EIO" || errno == "ENOSPC" {
				tr.retry = true
				trials = append(trials, tr)
			}
		}
	}
	survived := c.undergoAll(t, base, trials, failed(t))
	fmt.Printf("RESULT atomicdir_errno points=%d survived=%d\n", len(trials), survived)
}

// TestSyncOrder: with WithSync, everything of the new set is on the disk before
// the swap, and the swap before anything old is removed.
func TestSyncOrder(t *testing.T) {
	c, base := buildChild(t, ""), shm(t)
	s, err := scenario.Find("change-synced")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := c.traced(t.Context(), "act", s.Name, newVolume(t, base, s), "")
	if err != nil {
		t.Fatal(err)
	}
	begin := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "/MARK-BEGIN") })
	var order []string // of the calls that matter, each once in a row
	for _, line := range lines[begin:] {
		name := callName(line)
		switch name {
		case "write", "fsync", "symlinkat", "renameat", "unlinkat":
			if len(order) == 0 || order[len(order)-1] != name {
				order = append(order, name)
			}
		}
	}
	before, after, swapped := strings.Cut(strings.Join(order, " "), "symlinkat renameat")
	if !swapped || !strings.HasSuffix(before, "write fsync ") {
		t.Errorf("calls %v: want all written, then synced, then swapped", order)
	}
	if i := strings.Index(after, "fsync"); i < 0 || strings.Contains(after[:i], "unlinkat") {
		t.Errorf("calls %v: want a sync after the swap and before anything is removed", order)
	}
	// Four files, the generation, its two directories, and the volume twice.
	if n := countCalls(lines[begin:], "fsync"); n != len(s.New)+3+2 {
		t.Errorf("%d syncs, want %d", n, len(s.New)+3+2)
	}
}

func countCalls(lines []string, name string) (n int) {
	for _, line := range lines {
		if callName(line) == name {
			n++
		}
	}
	return n
}

// TestTheHarnessCanFail runs it against a copy of the algorithm that does not
// repair a stale "..data_tmp", as the kubelet does not: it must find the wedge.
func TestTheHarnessCanFail(t *testing.T) {
	const repair, without = "if errors.Is(err, unix.EEXIST) {", "if errors.Is(err, unix.EEXIST) && false {"
	original, err := filepath.Abs("../../projector/atomicdir/links_linux.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), repair) != 1 {
		t.Fatalf("%s has not one %q", original, repair)
	}
	dir := t.TempDir()
	broken, overlay := filepath.Join(dir, "broken.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: broken}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{broken: strings.Replace(string(source), repair, without, 1), overlay: string(replace)} {
		if err := os.WriteFile(path, []byte(content), 0600); err != nil {
			t.Fatal(err)
		}
	}
	c, base := buildChild(t, overlay), shm(t)
	s, err := scenario.Find("change")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := c.traced(t.Context(), "act", s.Name, newVolume(t, base, s), "")
	if err != nil {
		t.Fatal(err)
	}
	var trials []trial
	for _, p := range points(lines) {
		trials = append(trials, trial{scenario: s, call: p})
	}
	var mu sync.Mutex
	wedged := 0
	c.undergoAll(t, base, trials, func(_ trial, err error) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(err.Error(), "making link ..data_tmp: file exists") {
			wedged++
		}
	})
	fmt.Printf("RESULT atomicdir_crash_broken points=%d wedged=%d\n", len(trials), wedged)
	if wedged == 0 {
		t.Error("a copy that can't repair survived every kill")
	}
}

// TestRandomKills kills a process that publishes in a loop, at random times.
func TestRandomKills(t *testing.T) {
	c, dir := buildChild(t, ""), filepath.Join(shm(t), "volume")
	if err := os.Mkdir(dir, 0755); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	survived := 0
	for n := range *kills {
		cmd := exec.CommandContext(t.Context(), c.program, "loop", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "began\n" {
			t.Fatalf("kill %d: the next process says %q, %v", n, line, err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(2 * time.Millisecond)))) // the random time
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		have, err := contents(filepath.Join(dir, "..data"))
		whole := err == nil && len(have) == 3
		for _, text := range have {
			whole = whole && text == have["token"]
		}
		if !whole {
			t.Errorf("kill %d: readers have %q, %v", n, have, err)
			continue
		}
		survived++
	}
	fmt.Printf("RESULT atomicdir_random_kills kills=%d survived=%d\n", *kills, survived)
	if err := c.run(t.Context(), "recover", "first", dir); err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Find("first")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRecovered(dir, s); err != nil {
		t.Error(err)
	}
}
