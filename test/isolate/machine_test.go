package isolate

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guestEnv makes this test program run a machine and say what it is like there.
const guestEnv = "ISOLATE_TEST_GUEST"

func TestMain(m *testing.M) {
	if os.Getenv(guestEnv) == "" {
		os.Exit(m.Run())
	}
	os.Exit(RunMachine(func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "prepared"), nil, 0600)
	}, guest))
}

// guest leaves a process that has lost its parent and a control group that it is
// in, says so and, unless it is to end, waits to be killed.
func guest(m Machine) int {
	err := func() error {
		for _, dir := range fresh {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				return fmt.Errorf("%s has %d entries, %w", dir, len(entries), err)
			}
		}
		if _, err := os.Stat(filepath.Join(m.Dir, "prepared")); err != nil {
			return err
		}
		if _, err := net.Listen("tcp", "127.0.0.1:1"); err != nil {
			return fmt.Errorf("using the loopback: %w", err)
		}
		if err := os.WriteFile("/run/token-projector-test", nil, 0600); err != nil {
			return err
		}
		roots, err := hierarchies()
		if err != nil {
			return err
		}
		below := filepath.Join(roots[0], m.Cgroup, "below")
		if err := os.Mkdir(below, 0755); err != nil {
			return err
		}
		// In a session of its own it outlives who started it.
		script := `echo $$ >"$1"/cgroup.procs; sleep 1000 & echo $! >"$2"/orphan`
		cmd := exec.Command("sh", "-c", script, "sh", below, m.Dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Run()
	}()
	if err != nil {
		fmt.Println("FAILED", err)
		return 1
	}
	fmt.Println("DIR", m.Dir)
	if os.Getenv(guestEnv) == "ends" {
		return 7
	}
	select {}
}

// startGuest starts a machine and returns its directory.
func startGuest(t *testing.T, what string) (cmd *exec.Cmd, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make namespaces")
	}
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), guestEnv+"="+what)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	dir, found := strings.CutPrefix(lines.Text(), "DIR ")
	if !found {
		t.Fatalf("the machine says %q", lines.Text())
	}
	return cmd, dir
}

// TestMachine ends and kills machines, and looks what is left of each.
func TestMachine(t *testing.T) {
	ended, dir := startGuest(t, "ends")
	var exit *exec.ExitError
	if err := ended.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("it ended with %v, want exit code 7", err)
	}
	gone(t, dir)

	killed, dir := startGuest(t, "waits")
	if n := len(members(t, dir)); n != 1 {
		t.Errorf("%d processes in its control group, want 1", n)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("who removed the killed one's directory? %v", err)
	}
	for deadline := time.Now().Add(time.Minute); len(members(t, dir)) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v outlive their machine", members(t, dir))
		}
		time.Sleep(10 * time.Millisecond)
	}
	next, _ := startGuest(t, "ends")
	_ = next.Wait()
	gone(t, dir)
}

// members are the processes in a machine's control group.
func members(t *testing.T, dir string) []string {
	t.Helper()
	roots, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	procs, err := os.ReadFile(filepath.Join(roots[0], filepath.Base(dir), "below", "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(procs))
}

// gone fails the test if anything of a machine is left.
func gone(t *testing.T, dir string) {
	t.Helper()
	roots, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	left := []string{dir, "/run/token-projector-test"}
	for _, root := range roots {
		left = append(left, filepath.Join(root, filepath.Base(dir)))
	}
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}
