package csi

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func (r *rig) registration() string {
	return filepath.Join(r.kubelet, registryDir, "d.example-reg.sock")
}

// expectRegistration asks as the kubelet's plugin watcher does.
func (r *rig) expectRegistration(t *testing.T) {
	t.Helper()
	client := registration.NewRegistrationClient(dial(t, r.registration()))
	info, err := call(t, client.GetInfo, &registration.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if info.Type != registration.CSIPlugin || info.Name != "d.example" || info.Endpoint != r.driver.cfg.Socket {
		t.Errorf("info %+v", info)
	}
	if st, err := os.Stat(r.registration()); err != nil || st.Mode().Perm() != 0600 {
		t.Errorf("socket: %v, %v", st, err)
	}
}

// expectNode asks on a new connection whose driver is at the socket.
func (r *rig) expectNode(t *testing.T, conn *grpc.ClientConn, want string) {
	t.Helper()
	if info, err := call(t, csi.NewNodeClient(conn).NodeGetInfo, &csi.NodeGetInfoRequest{}); err != nil || info.NodeId != want {
		t.Errorf("%v, %v, want %q", info, err, want)
	}
}

// TestSocketsAreMadeAnew after somebody has removed them, or their directory.
func TestSocketsAreMadeAnew(t *testing.T) {
	r := newRig(t)
	remove := func(path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	clearAway := func(dir string) { // at once, or the driver would be in between
		away := filepath.Join(t.TempDir(), "away")
		if err := os.Rename(dir, away); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(away); err != nil {
			t.Fatal(err)
		}
	}
	for _, removed := range []func(){
		func() {},
		func() { remove(r.registration()) },
		func() { remove(r.driver.cfg.Socket) },
		func() { clearAway(filepath.Dir(r.registration())) },
		func() { clearAway(filepath.Dir(r.driver.cfg.Socket)) },
		func() { remove(r.registration()) }, // in the new directory
	} {
		removed()
		r.expectRegistration(t)
		r.expectNode(t, dial(t, r.driver.cfg.Socket), "n")
	}
}

// TestUpgrade: the sockets are those of the newer process, whatever the older one
// does and when it ends.
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	older := newRigAt(t, dir, "older")
	older.expectRegistration(t)
	kept := dial(t, older.driver.cfg.Socket)
	older.expectNode(t, kept, "older")

	newer := newRigAt(t, dir, "newer")
	for range 2 { // sockets
		older.log.wait(t, "another process has put its socket")
	}
	older.expectNode(t, kept, "older") // a request that is under way goes on
	sockets := []string{newer.registration(), newer.driver.cfg.Socket}
	var before []os.FileInfo
	for _, path := range sockets {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, st)
	}
	older.end()
	for i, path := range sockets {
		if now, err := os.Stat(path); err != nil || !os.SameFile(before[i], now) {
			t.Errorf("%s is another one: %v", path, err)
		}
	}
	newer.expectRegistration(t)
	newer.expectNode(t, dial(t, newer.driver.cfg.Socket), "newer")
}

// TestNoKubelet: there is an error where no kubelet would look for the socket.
func TestNoKubelet(t *testing.T) {
	dir := t.TempDir()
	driver, err := New(Config{
		Name: "d.example", Version: "v1", NodeName: "n", Socket: filepath.Join(dir, "csi.sock"),
		KubeletDir: filepath.Join(dir, "absent"), Logger: newLogs().logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.Run(t.Context()); err == nil {
		t.Error("it runs")
	}
}
