package doctor

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/token-projector/token-projector/projector/atomicdir"
	tokenprojectorv1alpha1 "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// What the patient is made of.
const (
	podUID     = "11111111-2222-3333-4444-555555555555"
	daemonPID  = 100
	appPID     = 200
	mountPoint = "/var/run/secrets/tokens"
)

// patient is a node with a Pod where all is well, until a test breaks it: projectord,
// its volume, a container that has that mounted, an API server.
type patient struct {
	*testing.T
	Doctor
	dir, path, proc string // path is the volume's
	token           string
	daemon          daemon
	api             api
	notReady        string // what /readyz says instead
	kubeconfig      string // of the API server, not used by default
	server          *httptest.Server
}

// daemon is projectord as far as it is asked.
type daemon struct {
	err     error
	info    *tokenprojectorv1alpha1.GetInfoResponse
	volumes []*tokenprojectorv1alpha1.Volume
}

func (d *daemon) GetInfo(context.Context, *tokenprojectorv1alpha1.GetInfoRequest, ...grpc.CallOption) (*tokenprojectorv1alpha1.GetInfoResponse, error) {
	return d.info, d.err
}

// ListVolumes has one volume on each page.
func (d *daemon) ListVolumes(_ context.Context, r *tokenprojectorv1alpha1.ListVolumesRequest, _ ...grpc.CallOption) (*tokenprojectorv1alpha1.ListVolumesResponse, error) {
	at := len(r.GetPageToken())
	if d.err != nil || at >= len(d.volumes) {
		return &tokenprojectorv1alpha1.ListVolumesResponse{}, d.err
	}
	page := &tokenprojectorv1alpha1.ListVolumesResponse{Volumes: d.volumes[at : at+1]}
	if at+1 < len(d.volumes) {
		page.NextPageToken = strings.Repeat("x", at+1)
	}
	return page, nil
}

// api is how the API server behaves.
type api struct {
	ahead   time.Duration
	refuses bool   // the token itself
	review  string // status of a TokenReview
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(a.ahead).UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/tokenreviews") && a.review != "":
		_, _ = fmt.Fprintf(w, `{"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": %s}`, a.review)
	case strings.HasSuffix(r.URL.Path, "/selfsubjectreviews") && !a.refuses:
		_, _ = fmt.Fprint(w, `{"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
			"status": {"userInfo": {"username": "system:serviceaccount:ns:sa"}}}`)
	default:
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// claims are a token's as the API server makes them, issued some time ago, for an
// hour.
func claims(ago time.Duration, audience string) string {
	iat := time.Now().Add(-ago).Unix()
	return fmt.Sprintf(`{"iss": "https://issuer", "sub": "system:serviceaccount:ns:sa", "aud": [%q], "iat": %d, "exp": %d, "kubernetes.io":
		{"namespace": "ns", "serviceaccount": {"name": "sa", "uid": "account-uid"}, "pod": {"name": "web", "uid": %q}}}`,
		audience, iat, iat+3600, podUID)
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	dir := t.TempDir()
	p := &patient{T: t, dir: dir, proc: filepath.Join(dir, "proc"), path: filepath.Join(dir, "root/pods", podUID, "volumes/kubernetes.io~projected/tokens")}
	p.server = httptest.NewTLSServer(&p.api)
	t.Cleanup(p.server.Close)
	host, port, err := net.SplitHostPort(p.server.Listener.Addr().String())
	p.must(err)
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	p.kubeconfig = filepath.Join(dir, "kubeconfig")
	p.write(p.kubeconfig, fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q, certificate-authority: ca.crt}}],
		users: [{name: u, user: {token: admin}}], contexts: [{name: c, context: {cluster: c, user: u}}]}`, p.server.URL))
	p.write(filepath.Join(dir, "ca.crt"), p.ca())
	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if p.notReady != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, p.notReady)
		}
	}))
	t.Cleanup(ready.Close)
	p.daemon.info = &tokenprojectorv1alpha1.GetInfoResponse{Version: "v1", Node: "node-1", User: "system:node:node-1"}
	p.daemon.volumes = []*tokenprojectorv1alpha1.Volume{{
		Id: &tokenprojectorv1alpha1.VolumeId{PodUid: podUID, VolumeName: "tokens"}, Pod: &tokenprojectorv1alpha1.PodRef{Namespace: "ns", Name: "web"},
		HostPath: p.path, Phase: tokenprojectorv1alpha1.Phase_PHASE_READY,
	}}
	p.Doctor = Doctor{
		Target: podUID, RootDir: filepath.Join(dir, "root"), KubeletDir: shortDir(t), Socket: "/run/projectord.sock", Daemon: &p.daemon,
		HTTPAddress: ready.Listener.Addr().String(), Node: "host", Proc: p.proc, Now: time.Now(),
	}
	p.must(os.MkdirAll(p.path, 0755))
	p.publish(claims(10*time.Minute, "https://issuer"))
	p.processes()
	return p
}

// shortDir is for the path of a socket, which must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor") //nolint:usetesting // the test's name is in that of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (p *patient) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *patient) write(path, text string) {
	p.Helper()
	p.must(os.MkdirAll(filepath.Dir(path), 0755))
	p.must(os.WriteFile(path, []byte(text), 0644))
}

func (p *patient) link(to, path string) {
	p.Helper()
	p.must(os.MkdirAll(filepath.Dir(path), 0755))
	_ = os.Remove(path) // it may be another one
	p.must(os.Symlink(to, path))
}

func (p *patient) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}))
}

// publish puts a token into the volume.
func (p *patient) publish(claims string) {
	p.Helper()
	p.token = rotationtest.JWT(claims)
	p.publishFile(p.token)
}

func (p *patient) publishFile(token string) {
	p.Helper()
	_, err := atomicdir.New(p.path, atomicdir.WithGrace(0)).Publish([]atomicdir.File{
		{Path: "token", Data: []byte(token), Mode: 0640}, {Path: "ca.crt", Data: []byte(p.ca()), Mode: 0644},
	})
	p.must(err)
}

// processes makes a /proc with projectord and a container, where the volume is a
// tmpfs.
func (p *patient) processes() {
	p.Helper()
	p.link(initialPIDNamespace, p.of("self", "ns/pid"))
	p.link("mnt:[1]", p.of("self", "ns/mnt"))
	p.write(p.of("self", "mountinfo"), p.nodesMounts())
	p.write(p.of("sys", "fs/inotify/max_user_instances"), "128\n")
	p.write(p.of("sys", "fs/inotify/max_user_watches"), "1000\n")

	projectord := strconv.Itoa(daemonPID)
	p.process(daemonPID, "projectord", "mnt:[1]", 0)
	p.write(p.of(projectord, "mountinfo"), "1 0 8:1 / / rw - ext4 /dev/sda rw\n")
	p.write(p.of(projectord, "limits"), "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n")
	p.link("anon_inode:inotify", p.of(projectord, "fd/3"))
	p.write(p.of(projectord, "fdinfo/3"), "pos:\t0\ninotify wd:1 ino:1\ninotify wd:2 ino:2\n")
	p.link("socket:[1]", p.of(projectord, "fd/4"))

	p.process(appPID, "app", "mnt:[2]", os.Getuid())
	p.write(p.of(strconv.Itoa(appPID), "cgroup"), "0::/kubepods.slice/kubepods-pod"+strings.ReplaceAll(podUID, "-", "_")+".slice/cri-1.scope\n")
	p.mount("0:50", "/", mountPoint)
	p.see(p.token)
	p.process(appPID+1, "child", "mnt:[2]", os.Getuid()) // of the same container
	p.must(os.Symlink("../"+strconv.Itoa(appPID)+"/mountinfo", p.of(strconv.Itoa(appPID+1), "mountinfo")))
	p.must(os.Symlink("../"+strconv.Itoa(appPID)+"/root", p.of(strconv.Itoa(appPID+1), "root")))
	p.process(300, "ended", "mnt:[3]", 0)   // its mounts are gone already
	p.process(400, "kubelet", "mnt:[4]", 0) // it has the volume as the node has it
	p.write(p.of("400", "mountinfo"), p.nodesMounts()+"3 1 0:50 / /host/pods/"+podUID+"/volumes/kubernetes.io~projected/tokens rw - tmpfs projectord rw\n")
}

// nodesMounts is a mountinfo of the node. The volume's comes before that of the
// root, as it may after a pivot_root(2).
func (p *patient) nodesMounts() string {
	return "2 1 0:50 / " + p.path + " rw - tmpfs projectord rw\n1 0 8:1 / / rw - ext4 /dev/sda rw\n"
}

// move has the volume lie somewhere else.
func (p *patient) move(path string) {
	p.Helper()
	p.must(os.Rename(p.path, path))
	p.path, p.Target = path, path
	p.daemon.volumes[0].HostPath = path
	p.write(p.of("self", "mountinfo"), p.nodesMounts())
	p.must(os.RemoveAll(p.of("400", "")))
}

// see has the container see a token at its mount.
func (p *patient) see(token string) {
	p.Helper()
	path := filepath.Join(p.of(strconv.Itoa(appPID), "root"), mountPoint, "token")
	p.write(path, token)
	p.must(os.Chmod(path, 0640))
}

func (p *patient) of(process, file string) string { return filepath.Join(p.proc, process, file) }

func (p *patient) process(pid int, comm, namespace string, uid int) {
	p.Helper()
	id := strconv.Itoa(pid)
	p.link(namespace, p.of(id, "ns/mnt"))
	p.write(p.of(id, "comm"), comm+"\n")
	p.runAs(pid, uid)
}

func (p *patient) runAs(pid, uid int) {
	p.Helper()
	p.write(p.of(strconv.Itoa(pid), "status"), fmt.Sprintf("Name:\tx\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\nGid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\nGroups:\t%[1]d\nCapEff:\t0000000000000000\n", uid))
}

// mount is what the container has besides its root.
func (p *patient) mount(device, root, point string) {
	p.Helper()
	p.write(p.of(strconv.Itoa(appPID), "mountinfo"),
		fmt.Sprintf("1 0 0:40 / / rw - overlay overlay rw\n2 1 %s %s %s ro - tmpfs projectord rw\n", device, root, point))
}
