package integration

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/daemon"
)

// finding is what the tests read of `projectorctl doctor -o json`.
type finding struct{ Status, Check, Text, Advice string }

// runDoctor runs it and returns its output, and whether it failed.
func (w *world) runDoctor(d *daemon.Daemon, env []string, args ...string) (out string, failed bool) {
	w.Helper()
	address, err := d.URL(w.ctx)
	w.must(err)
	cmd := exec.CommandContext(w.ctx, ctl, append([]string{"doctor", "--root-dir=" + w.root(), "--kubelet-dir=" + w.dir,
		"--socket=" + filepath.Join(w.dir, "none"), "--http-address=" + strings.TrimPrefix(address, "http://")}, args...)...)
	cmd.Env = append(append(os.Environ(), "KUBECONFIG="), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil && (cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1) {
		w.Fatalf("%v: %s%s", err, text, &stderr)
	}
	return string(text), err != nil
}

// doctor is what it finds by check, the last of each. It must fail exactly if one of
// them does.
func (w *world) doctor(d *daemon.Daemon, env []string, args ...string) map[string]finding {
	w.Helper()
	out, failed := w.runDoctor(d, env, append(args, "-o", "json")...)
	var all []finding
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	found := map[string]finding{}
	for _, f := range all {
		found[f.Check] = f
	}
	if failed != slices.ContainsFunc(all, func(f finding) bool { return f.Status == "FAIL" }) {
		w.Errorf("failed %t: %s", failed, out)
	}
	return found
}

// says checks one finding.
func (w *world) says(found map[string]finding, check, status, text string) {
	w.Helper()
	if f := found[check]; f.Status != status || !strings.Contains(f.Text, text) || (f.Advice == "") != (status == "OK") {
		w.Errorf("%s is %+v, want %s and %q; all: %+v", check, f, status, text, found)
	}
}

// TestDoctor: a volume that is well gives no FAIL, whoever asks; the end of its Pod, or
// of its ServiceAccount, is told as what it is.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady()
	web, other := w.create(w.newPod("web")), w.newPod("other")
	_, err := w.client.CoreV1().ServiceAccounts(w.ns).Create(w.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "short-lived"}}, metav1.CreateOptions{})
	w.must(err)
	other.Spec.ServiceAccountName = "short-lived"
	other = w.create(withVolume(other, nil, tokenSource("vault", 600, "vault/token")))
	f, g := w.tokenFiles(web)[0], w.tokenFiles(other)[0]
	token, vault := w.waitFile(f.Path), w.waitFile(g.Path)
	admin, err := w.cluster.AdminKubeconfig()
	w.must(err)
	address, err := url.Parse(w.cluster.URL())
	w.must(err)
	asPod := []string{"KUBERNETES_SERVICE_HOST=" + address.Hostname(), "KUBERNETES_SERVICE_PORT=" + address.Port()}

	for name, found := range map[string]map[string]finding{
		"as a Pod": w.doctor(d, asPod, string(web.UID)),
		"as admin": w.doctor(d, nil, "--kubeconfig="+admin, filepath.Dir(f.Path)),
	} {
		for check, f := range found {
			if f.Status == "FAIL" || f.Status == "WARN" && check != "limits" && check != "permissions" { // which are the machine's
				t.Errorf("%s: %s is %+v", name, check, f)
			}
		}
		for _, check := range []string{"readiness", "kubelet", "volume", "token", "clock"} {
			w.says(found, check, "OK", "")
		}
		w.says(found, "server", "OK", "accepts the token as "+f.User)
	}
	w.says(w.doctor(d, asPod, string(other.UID)), "clock", "SKIP", "it is not known") // it has no ca.crt
	w.says(w.doctor(d, nil, "--kubeconfig="+w.nodeKubeconfig(), string(other.UID)), "server", "OK", `accepts the token for ["vault"]`)

	// projectord would remove the volume of a Pod that is gone.
	copies := map[string]string{f.Path: token, g.Path: vault}
	w.must(d.Term())
	w.deletePod(web)
	w.must(w.client.CoreV1().ServiceAccounts(w.ns).Delete(w.ctx, "short-lived", metav1.DeleteOptions{}))
	w.eventually("the tokens to be refused", func() bool { return w.review(f, copies[f.Path]) != nil && w.review(g, copies[g.Path]) != nil })
	d = w.startWith("--kubeconfig="+filepath.Join(w.dir, "absent"), "--pod-source=none") // it is not ready, and changes nothing
	found := w.doctor(d, nil, "--kubeconfig="+admin, string(web.UID))
	w.says(found, "server", "FAIL", "refuses the token: [invalid bearer token")
	w.says(found, "readiness", "FAIL", "the credential does not exist")
	if !strings.Contains(found["server"].Advice, "get pod web -o jsonpath={.metadata.uid} must say "+string(web.UID)) {
		t.Errorf("the advice is %q", found["server"].Advice)
	}
	w.says(w.doctor(d, asPod, string(web.UID)), "server", "FAIL", "refuses the token")
	w.says(w.doctor(d, nil, "--kubeconfig="+admin, string(other.UID)), "server", "FAIL", "refuses the token: [invalid bearer token")
	w.says(w.doctor(d, nil, "--kubeconfig="+admin, "no-such-pod"), "volume", "FAIL", "there is no volume")
}

// TestDoctorLooksIntoContainers: at mounts in a namespace of their own, of the whole
// volume and of one file, before and after a rotation.
func TestDoctorLooksIntoContainers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	w := newWorld(t, shared)
	d := w.startReady()
	f := w.tokenFiles(w.create(w.newPod("web")))[0]
	token := w.waitFile(f.Path)
	volume := filepath.Dir(f.Path)
	admin, err := w.cluster.AdminKubeconfig()
	w.must(err)
	whole := w.container(volume, filepath.Join(w.dir, "whole"))
	look := func(pid string) map[string]finding {
		return w.doctor(d, nil, "--kubeconfig="+admin, "--pid="+pid, volume)
	}
	w.says(look(whole), "container", "OK", filepath.Join(w.dir, "whole")+" has the volume as it is")
	w.says(w.doctor(d, nil, "--kubeconfig="+admin, volume), "container", "OK", "process "+whole) // it is found
	sub := w.container(f.Path, filepath.Join(w.dir, "sub"))
	w.says(look(sub), "container", "WARN", "by a subPath")

	w.must(d.Signal(syscall.SIGUSR1))
	w.eventually("the token to be rotated", func() bool { return w.waitFile(f.Path) != token })
	w.says(look(whole), "container", "OK", "has the volume as it is")
	w.says(look(sub), "container", "FAIL", "files of an earlier generation, by a subPath")

	out, _ := w.runDoctor(d, nil, "--kubeconfig="+admin, "--pid="+sub, volume)
	_, out, _ = strings.Cut(out, "\nvolume ") // what is said of the node differs from one to the next
	doc := w.newDocument()
	doc.path = operatingDocument
	maps.Copy(doc.names, map[string]string{admin: "admin.conf", "process " + sub: "process 4242", filepath.Join(w.dir, "sub"): "/etc/app/token"})
	doc.put("doctor", "$ projectorctl doctor --kubeconfig admin.conf --pid 4242 "+volume+" | sed -n '/^volume/,$p'\nvolume "+out)
	doc.compare()
}

// container runs a process in a mount namespace of its own, that has one thing
// mounted and waits, and returns its id.
func (w *world) container(source, target string) string {
	w.Helper()
	cmd := exec.CommandContext(w.ctx, "unshare", "--mount", "sh", "-ec",
		`if [ -d "$1" ]; then mkdir "$2"; else : >"$2"; fi; mount --bind "$1" "$2"; echo $$; exec cat >/dev/null`, "sh", source, target)
	stdin, err := cmd.StdinPipe()
	w.must(err)
	stdout, err := cmd.StdoutPipe()
	w.must(err)
	w.must(cmd.Start())
	w.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line := make([]byte, 32)
	n, err := stdout.Read(line)
	w.must(err)
	return strings.TrimSpace(string(line[:n]))
}
