package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/internal/kubelet"
	tokenprojectorv1alpha1 "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// TestHealthy: where all is well each check says so, and no token is shown.
func TestHealthy(t *testing.T) {
	p := newPatient(t)
	results := p.Doctor.Run(t.Context())
	var checks []string
	for _, r := range results {
		checks = append(checks, r.Check)
		if r.Status != OK || r.Advice != "" || r.Text == "" || (r.Volume != "") != slices.Contains([]string{"volume", "token", "server", "container"}, r.Check) && r.Check != "daemon" {
			t.Errorf("%+v", r)
		}
	}
	want := []string{"permissions", "daemon", "readiness", "kubelet", "limits", "clock", "volume", "token", "daemon", "server", "container"}
	if !slices.Equal(checks, want) {
		t.Errorf("checks %q, want %q", checks, want)
	}
	var out bytes.Buffer
	p.must(Print(&out, results))
	if !strings.Contains(out.String(), "node\n  OK    permissions  this is root\n") ||
		!strings.Contains(out.String(), "\nvolume "+p.path+"\n  OK    volume       generation ..") {
		t.Errorf("printed:\n%s", &out)
	}
	for part := range strings.SplitSeq(p.token, ".") {
		if strings.Contains(out.String(), part) {
			t.Error("a part of the token is shown")
		}
	}
}

// TestEachThingBroken breaks each thing once.
func TestEachThingBroken(t *testing.T) {
	examine(t, []breakage{
		{"not root", func(p *patient) { p.UID = 1000 }, []string{"WARN permissions"}, "this is not root", "as root"},

		{"no socket", func(p *patient) {
			p.daemon.err = status.Error(codes.Unavailable, "connection error: desc = \"transport: dial unix /s: connect: no such file or directory\"")
		}, []string{"SKIP daemon"}, "projectord does not answer at /run/projectord.sock: no such file or directory", "--socket"},
		{"socket of another user", func(p *patient) { p.daemon.err = status.Error(codes.PermissionDenied, "who are you?") },
			[]string{"SKIP daemon"}, "who are you?", "as root"},
		{"daemon without the API server", func(p *patient) { p.daemon.info.User = "" }, []string{"FAIL daemon"}, "has not reached the API server", "its log"},
		{"daemon that says degraded", func(p *patient) {
			p.daemon.volumes[0].Phase, p.daemon.volumes[0].LastError = tokenprojectorv1alpha1.Phase_PHASE_DEGRADED, "configMap gone"
		}, []string{"FAIL daemon"}, "projectord has it as degraded: configMap gone", "correct what the error says"},
		{"degraded, of the node", func(p *patient) {
			p.Target, p.daemon.volumes[0].Phase, p.Kubeconfig = "", tokenprojectorv1alpha1.Phase_PHASE_DEGRADED, p.kubeconfig
		}, []string{"FAIL daemon"}, "tokens of Pod ns/web: projectord has it as degraded", "its log"},
		{"degraded, in a directory that is in no layout", func(p *patient) {
			p.move(filepath.Join(p.dir, "elsewhere"))
			p.daemon.volumes[0].HostPath, p.daemon.volumes[0].LastError = p.path, "configMap gone"
		}, []string{"FAIL daemon"}, "projectord has it as ready: configMap gone", "correct what the error says"},
		{"Pod that ends", func(p *patient) { p.daemon.volumes[0].Phase = tokenprojectorv1alpha1.Phase_PHASE_TERMINATING },
			[]string{"WARN daemon"}, "its Pod ends", "successor"},
		{"volume that the daemon does not know", func(p *patient) { p.daemon.volumes = nil }, []string{"FAIL daemon"}, "does not know it", "--root-dir"},
		{"not published yet", func(p *patient) {
			p.must(os.RemoveAll(p.path))
			p.Kubeconfig, p.daemon.volumes[0].Phase = p.kubeconfig, tokenprojectorv1alpha1.Phase_PHASE_PENDING
		}, []string{"FAIL volume", "WARN daemon"}, "there is no volume with tokens of Pod " + podUID, "kubectl get pods"},
		{"can't be published", func(p *patient) {
			p.must(os.RemoveAll(p.path))
			p.Kubeconfig, p.daemon.volumes[0].Phase, p.daemon.volumes[0].LastError = p.kubeconfig, tokenprojectorv1alpha1.Phase_PHASE_PENDING, "no ServiceAccount"
		}, []string{"FAIL volume", "FAIL daemon"}, "there is no volume", "kubectl get pods"},

		{"not ready", func(p *patient) { p.notReady = "api-server: refused\nroot-dir: locked" },
			[]string{"FAIL readiness"}, "api-server: refused; root-dir: locked", "operating.md"},
		{"nobody listens", func(p *patient) { p.HTTPAddress = "127.0.0.1:1" }, []string{"SKIP readiness"}, "connection refused", "--http-address"},

		{"kubelet without a selector", func(p *patient) {
			p.kubelet()
			p.Target, p.daemon.volumes, p.Kubeconfig = "", nil, p.kubeconfig
		}, []string{"WARN kubelet"}, "nothing is projected beside it", "--pod-selector"},
		{"kubelet, and a CSI driver beside it that nobody uses", func(p *patient) {
			p.kubelet()
			p.Target, p.daemon.volumes, p.Kubeconfig, p.daemon.info.Features = "", nil, p.kubeconfig, []string{"csi"}
		}, nil, "", ""},
		{"kubelet, and no daemon", func(p *patient) {
			p.kubelet()
			p.daemon.err = errors.New("away")
		}, []string{"SKIP daemon", "SKIP kubelet"}, "away", "--socket"},

		{"no inotify instances left", func(p *patient) { p.write(p.of("sys", "fs/inotify/max_user_instances"), "1") },
			[]string{"WARN limits"}, "projectord has 1 of 1 inotify instances", "max_user_instances"},
		{"few inotify watches left", func(p *patient) { p.write(p.of("sys", "fs/inotify/max_user_watches"), "2") },
			[]string{"WARN limits"}, "projectord has 2 of 2 inotify watches", "max_user_watches"},
		{"few descriptors left", func(p *patient) { p.write(p.of("100", "limits"), "Max open files 2 4096 files\n") },
			[]string{"WARN limits"}, "projectord has 2 of 2 open files", "LimitNOFILE"},
		{"another's inotify instances", func(p *patient) {
			p.process(300, "other", "mnt:[1]", 0) // of the same user
			p.link("anon_inode:inotify", p.of("300", "fd/3"))
			p.write(p.of("sys", "fs/inotify/max_user_instances"), "2")
		}, []string{"WARN limits"}, "projectord has 2 of 2 inotify instances", "max_user_instances"},
		{"another user's inotify instances", func(p *patient) {
			p.process(300, "other", "mnt:[1]", 4242)
			p.link("anon_inode:inotify", p.of("300", "fd/3"))
			p.write(p.of("sys", "fs/inotify/max_user_instances"), "2")
		}, nil, "", ""},
		{"no process of projectord", func(p *patient) { p.must(os.RemoveAll(p.of("100", ""))) }, []string{"SKIP limits"}, "no process of projectord", "start it"},

		// How far is known to a second or so: the header has no more.
		{"clock 10 s ahead", func(p *patient) { p.api.ahead = 10 * time.Second }, []string{"WARN clock"}, "s ahead of this node's", "time synchronisation"},
		{"clock 90 s behind", func(p *patient) { p.api.ahead = -90 * time.Second }, []string{"FAIL clock"}, "s behind this node's", "time synchronisation"},
		{"API server away", func(p *patient) { p.server.Close() }, []string{"FAIL clock", "FAIL server"}, "nothing listens at the API server's address", "https://127.0.0.1:"},
		{"no address of the API server", func(p *patient) { p.Setenv("KUBERNETES_SERVICE_HOST", "") },
			[]string{"SKIP clock", "SKIP server"}, "it is not known where the API server is", "give --kubeconfig"},

		{"no ..data", func(p *patient) {
			p.must(os.Remove(filepath.Join(p.path, "..data")))
			p.Kubeconfig = p.kubeconfig
		},
			[]string{"FAIL volume"}, "..data is not a link to a generation", "see that projectord runs"},
		{"..data leads nowhere", func(p *patient) {
			p.link("..2026_01_01_00_00_00.1", filepath.Join(p.path, "..data"))
			p.Kubeconfig = p.kubeconfig
		},
			[]string{"FAIL volume"}, "which is not there", "see that projectord runs"},
		{"no directory", func(p *patient) { p.Target = p.dir + "/nowhere" }, []string{"SKIP clock", "FAIL volume"}, "it is not known", "give --kubeconfig"},
		{"somebody else's file", func(p *patient) { p.write(filepath.Join(p.path, "mine"), "x") }, []string{"WARN volume"}, "mine is not a link into ..data", "see that projectord runs"},
		{"expired token", func(p *patient) { p.lives(2*time.Hour, "https://issuer") },
			[]string{"FAIL token"}, "holds a token that expired at", "see that projectord runs"},
		{"overdue token", func(p *patient) {
			old := claims(2*time.Hour, "https://issuer")
			p.see(p.publishOf(strings.Replace(old, `"namespace"`, fmt.Sprintf(`"warnafter": %d, "namespace"`, time.Now().Add(-time.Hour).Unix()), 1),
				fmt.Sprint(time.Now().Add(-time.Hour).Unix()), fmt.Sprint(time.Now().Add(9000*time.Hour).Unix())))
		}, []string{"WARN token"}, "was to be replaced by", "see that projectord runs"},
		{"token that nobody replaces", func(p *patient) {
			p.must(os.Chtimes(filepath.Join(p.path, "..data/token"), time.Time{}, time.Now().Add(-51*time.Minute)))
		}, []string{"WARN token"}, "it was to be replaced by", "see that projectord runs"},
		{"token of another Pod", func(p *patient) {
			p.see(p.publishOf(claims(0, "https://issuer"), podUID, "another"))
		}, []string{"FAIL token"}, "holds a token of Pod another", "see that projectord runs"},
		{"token cut short", func(p *patient) {
			p.publishFile(p.token[:20])
		}, []string{"FAIL token"}, "token is not a token of a ServiceAccount", "see that projectord runs"},
		{"kubelet's volume without ..data", func(p *patient) { p.Target = p.kubeletsVolume() },
			[]string{"FAIL volume"}, "..data is not a link", "journalctl -u kubelet"},

		{"refused token", func(p *patient) { p.api.refuses = true }, []string{"FAIL server"}, "the API server refuses the token",
			"kubectl -n ns get pod web -o jsonpath={.metadata.uid} must say " + podUID},
		{"refused token, with the reason", func(p *patient) {
			p.api.refuses, p.api.review, p.Kubeconfig = true, `{"error": "[service account token has been invalidated]"}`, p.kubeconfig
		}, []string{"FAIL server"}, "has been invalidated", "serviceaccount sa -o jsonpath={.metadata.uid} must say account-uid"},
		{"another audience", func(p *patient) {
			p.lives(time.Minute, "vault")
			p.api.refuses = true
		}, []string{"SKIP server"}, `the token is for ["vault"]`, "give --kubeconfig"},
		{"another audience, and no right to ask", func(p *patient) {
			p.lives(time.Minute, "vault")
			p.api.refuses, p.Kubeconfig = true, p.kubeconfig
		}, []string{"SKIP server"}, "the API server refuses the credential", "tokenreviews"},
		{"another audience, accepted", func(p *patient) {
			p.lives(time.Minute, "vault")
			p.api.refuses, p.api.review, p.Kubeconfig = true, `{"authenticated": true, "audiences": ["vault"], "user": {"username": "x"}}`, p.kubeconfig
		}, nil, "", ""},
	})
}

// breakage is one thing that is broken, and what comes of it.
type breakage struct {
	name string
	harm func(p *patient)
	want []string // what is not OK, as "STATUS check"
	text string   // of the first of them
	do   string
}

func examine(t *testing.T, breakages []breakage) {
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			p := newPatient(t)
			b.harm(p)
			p.expect(b.want, b.text, b.do)
		})
	}
}

// expect runs the doctor and compares what is not OK.
func (p *patient) expect(want []string, text, advice string) {
	p.Helper()
	var bad []Result
	var got []string
	for _, r := range p.Doctor.Run(p.Context()) {
		if r.Status != OK {
			bad = append(bad, r)
			got = append(got, fmt.Sprintf("%s %s", r.Status, r.Check))
		}
	}
	if !slices.Equal(got, want) {
		p.Fatalf("not OK are %+v, want %q", bad, want)
	}
	if len(bad) > 0 && (!strings.Contains(bad[0].Text, text) || !strings.Contains(bad[0].Advice, advice)) {
		p.Errorf("%+v, want %q and the advice %q", bad[0], text, advice)
	}
}

// kubelet has one serve this node.
func (p *patient) kubelet() {
	p.Helper()
	p.must(os.MkdirAll(filepath.Dir(kubelet.Socket(p.KubeletDir)), 0750))
	l, err := net.Listen("unix", kubelet.Socket(p.KubeletDir))
	p.must(err)
	p.Cleanup(func() { _ = l.Close() })
}

// kubeletsVolume is one of the kubelet's own, with nothing in it.
func (p *patient) kubeletsVolume() string {
	p.Helper()
	path := filepath.Join(p.KubeletDir, "pods", podUID, "volumes/kubernetes.io~projected/kube-api-access-x")
	p.write(filepath.Join(path, "ca.crt"), p.ca())
	return path
}

// lives has the volume and the container have a token of some age and audience.
func (p *patient) lives(ago time.Duration, audience string) {
	p.Helper()
	p.publish(claims(ago, audience))
	p.see(p.token)
}

// publishOf publishes claims with one thing replaced, and returns the token.
func (p *patient) publishOf(claims, from, to string) string {
	p.Helper()
	if !strings.Contains(claims, from) {
		p.Fatalf("%q is not in the claims %s", from, claims)
	}
	p.publish(strings.Replace(claims, from, to, 1))
	return p.token
}

func (p *patient) generation() string {
	p.Helper()
	name, err := os.Readlink(filepath.Join(p.path, "..data"))
	p.must(err)
	return name
}

// TestFindsVolumesOfThePod: of projectord, of its CSI driver and of the kubelet,
// and no other driver's.
func TestFindsVolumesOfThePod(t *testing.T) {
	p := newPatient(t)
	p.kubeletsVolume()
	csi := filepath.Join(p.KubeletDir, "pods", podUID, "volumes/kubernetes.io~csi")
	for name, driver := range map[string]string{"ours": "csi.token-projector.io", "theirs": "disk.example.com"} {
		p.write(filepath.Join(csi, name, "vol_data.json"), `{"driverName": `+strconv.Quote(driver)+`}`)
		p.must(os.MkdirAll(filepath.Join(csi, name, "mount"), 0755))
	}
	var got []string
	for _, v := range p.find() {
		got = append(got, fmt.Sprintf("%s %t", v.name, v.ours))
	}
	if want := []string{"tokens true", "kube-api-access-x false", "ours true"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestPrintKeepsToItsLines: a claim can't forge one.
func TestPrintKeepsToItsLines(t *testing.T) {
	p := newPatient(t)
	p.lives(0, "a\n  OK    forged")
	var out bytes.Buffer
	p.must(Print(&out, p.Doctor.Run(t.Context())))
	if !strings.Contains(out.String(), `\n  OK    forged`) || strings.Contains(out.String(), "\n  OK    forged") {
		t.Errorf("printed:\n%s", &out)
	}
}
