package devcluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/rundir"
)

func start(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, c)
	return c
}

// stopAfter stops a cluster when the test ends, and looks what is left.
func stopAfter(t *testing.T, c *Cluster) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stop left %s: %v", c.Dir, err)
		}
	})
}

func admin(t *testing.T, c *Cluster) kubernetes.Interface {
	t.Helper()
	client, err := c.Admin()
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestSideBySide runs two clusters, one as an older version, and looks at what
// each component is there for.
func TestSideBySide(t *testing.T) {
	var clusters [2]*Cluster
	var errs [2]error
	var wg sync.WaitGroup
	for i, cfg := range []Config{{}, {APIServerArgs: []string{"--emulated-version=1.35"}}} {
		wg.Go(func() { clusters[i], errs[i] = Start(t.Context(), cfg) })
	}
	wg.Wait()
	for _, c := range clusters {
		if c != nil {
			stopAfter(t, c)
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if clusters[0].URL() == clusters[1].URL() {
		t.Errorf("both at %s", clusters[0].URL())
	}
	version, err := admin(t, clusters[1]).Discovery().ServerVersion()
	if err != nil || version.EmulationMinor != "35" {
		t.Errorf("emulated version %+v, %v; want 1.35", version, err)
	}

	c := clusters[0]
	eventually(t, "the controllers' work", func() error {
		_, err := admin(t, c).CoreV1().ConfigMaps("default").Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		if err == nil {
			_, err = admin(t, c).CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		}
		return err
	})
	path, err := c.ServiceAccountKubeconfig(t.Context(), "default", "default")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	account, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := account.Discovery().ServerVersion(); err != nil {
		t.Errorf("as a ServiceAccount: %v", err)
	}
}

// TestFreezeThawRestart disturbs the API server in each way.
func TestFreezeThawRestart(t *testing.T) {
	c := start(t, Config{})
	serves := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return c.APIServer.Ready(ctx)
	}
	if err := c.APIServer.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := serves(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen API server: %v, want no answer", err)
	}
	if err := c.APIServer.Thaw(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer after the thaw", serves)
	c.APIServer.Kill()
	if err := serves(); err == nil {
		t.Error("a killed API server answers")
	}
	if err := c.APIServer.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.APIServer.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := serves(); err != nil { // on the same address
		t.Errorf("a restarted API server: %v", err)
	}
}

// helperEnv makes this test program start a cluster and wait to be killed.
const helperEnv = "DEVCLUSTER_TEST_HELPER"

// TestKilledOwner kills the process that owns a cluster: its programs must end,
// and its directory go with the next start.
func TestKilledOwner(t *testing.T) {
	if os.Getenv(helperEnv) != "" {
		c, err := Start(context.Background(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("DIR", c.Dir)
		select {}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilledOwner$", "-test.v")
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		dir, _ = strings.CutPrefix(lines.Text(), "DIR ")
		if !strings.HasPrefix(dir, "/") {
			dir = ""
		}
	}
	if dir == "" {
		t.Fatal("the helper started no cluster")
	}
	if n := len(running(t, dir)); n != 3 {
		t.Fatalf("%d programs run in %s, want 3", n, dir)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "its programs to end", func() error {
		if left := running(t, dir); len(left) > 0 {
			return fmt.Errorf("still there: %q", left)
		}
		return nil
	})
	own, unlock, err := rundir.New(dirPrefix, isolate.UnmountBelow)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	defer func() { _ = os.RemoveAll(own) }()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the killed cluster's directory is still there: %v", err)
	}
}

// running are the command lines that name a cluster's directory.
func running(t *testing.T, dir string) []string {
	t.Helper()
	procs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range procs {
		line, err := os.ReadFile("/proc/" + p.Name() + "/cmdline")
		if err == nil && strings.Contains(string(line), dir+"/") {
			out = append(out, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return out
}

// eventually waits for something that another process does.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
