package ctl

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// last returns what the server was asked last.
func (f *fakeServer) last() (request any) {
	for {
		select {
		case request = <-f.asked:
		default:
			return request
		}
	}
}

// TestCalls: which request a command makes. What it prints is TestDocumentedOutput's.
func TestCalls(t *testing.T) {
	web := &api.VolumeId{PodUid: webUID, VolumeName: "kube-api-access-s9spx"}
	pod := &api.PodRef{Namespace: "default", Name: "web", Uid: webUID}
	tests := []struct {
		args string
		want proto.Message
	}{
		{"list --pod-uid " + webUID, &api.ListVolumesRequest{PodUid: webUID}},
		{"get default/web/kube-api-access-s9spx", &api.GetVolumeRequest{Id: web}},
		{"get " + webUID + "/kube-api-access-s9spx", &api.GetVolumeRequest{Id: web}},
		{"publish default/web " + webUID, &api.PublishVolumeRequest{Pod: pod}},
		{"publish default/web " + webUID + " kube-api-access-s9spx --wait", &api.PublishVolumeRequest{Pod: pod, VolumeName: "kube-api-access-s9spx", WaitReady: true}},
		{"unpublish default/web/kube-api-access-s9spx", &api.UnpublishVolumeRequest{Id: web}},
		{"rotate default/web/kube-api-access-s9spx", &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_Id{Id: web}}},
		{"rotate --all", &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_All{All: true}}},
		{"rotate --all --pace=1s", &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_All{All: true}, Pace: durationpb.New(time.Second)}},
		{"version --server", &api.GetInfoRequest{}},
		{"__complete get d", &api.ListVolumesRequest{PageToken: "the rest"}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			f := newFake()
			// A completion's last argument is the word at the cursor.
			t.Setenv(socketEnv, f.serve(t))
			var out, errs strings.Builder
			if code := run(t.Context(), strings.Fields(tt.args), nil, &out, &errs); code != exitOK {
				t.Fatalf("exit %d: %s", code, errs.String())
			}
			if got, _ := f.last().(proto.Message); !proto.Equal(got, tt.want) {
				t.Errorf("asked %v, want %v", got, tt.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	answers := func(code codes.Code) func(*fakeServer) {
		return func(f *fakeServer) { f.fails = status.Error(code, "the server's words") }
	}
	nothing := func(*fakeServer) {}
	tests := []struct {
		name  string
		setup func(*fakeServer)
		args  string
		code  int
		says  string // part of standard error; with a newline, its end
	}{
		{"not found", answers(codes.NotFound), "get u/v", exitNotFound, "projectord: the server's words"},
		{"no such name", nothing, "get default/web/v", exitNotFound, "there is no volume default/web/v: 'projectorctl list' shows"},
		{"a name of two Pods", func(f *fakeServer) {
			other := proto.Clone(f.volumes[2]).(*api.Volume)
			other.Id.PodUid = "other"
			f.volumes = append(f.volumes, other)
		}, "rotate default/web/kube-api-access-s9spx", exitFailure, "as " + webUID + "/kube-api-access-s9spx or other/kube-api-access-s9spx"},
		{"denied", answers(codes.PermissionDenied), "list", exitFailure, "projectord: the server's words"},
		{"not this Pod", answers(codes.FailedPrecondition), "publish default/web u", exitFailure, "projectord: the server's words"},
		{"the API server is away", answers(codes.Unavailable), "rotate u/v", exitNotReady, "projectord: the server's words"},
		{"too many calls", answers(codes.ResourceExhausted), "watch", exitNotReady, "projectord: the server's words"},
		{"another call", answers(codes.Aborted), "unpublish u/v", exitNotReady, "projectord: the server's words"},
		{"can't be written", nothing, "publish vault/vault-agent-5d8c7f9b6d-x7x2p " + agentUID + " --wait", exitNotReady, "is not written yet: the ServiceAccount vault/vault-agent does not exist"},
		{"pending is no failure without --wait", nothing, "publish vault/vault-agent-5d8c7f9b6d-x7x2p " + agentUID, exitOK, ""},
		{"not in time", func(f *fakeServer) { f.stuck = true }, "publish vault/v " + agentUID + " --wait --timeout=200ms", exitNotReady, "vault-token is not written yet: the ServiceAccount"},
		{"unpublish without a Pod", nothing, "unpublish volume", exitUsage, `invalid volume "volume": want NAMESPACE/POD/VOLUME`},
		{"an empty part", nothing, "get default//v", exitUsage, `invalid volume "default//v"`},
		{"two volumes", nothing, "get a/b c/d", exitUsage, "get takes one VOLUME, not 2"},
		{"a Pod without a namespace", nothing, "publish web " + webUID, exitUsage, `invalid Pod "web": want NAMESPACE/NAME`},
		{"no UID", nothing, "publish default/web", exitUsage, "the Pod's UID"},
		{"a volume for a UID", nothing, "publish default/web a/b", exitUsage, `invalid UID "a/b"`},
		{"nothing to rotate", nothing, "rotate", exitUsage, "rotate takes one VOLUME"},
		{"one and all", nothing, "rotate --all u/v", exitUsage, "not both"},
		{"list with an argument", nothing, "list u", exitUsage, `list takes no arguments, not "u"`},
		{"an unknown format", nothing, "list -o yaml", exitUsage, "want text or json"},
		{"a token as the socket", nothing, "list --pod-uid=eyJhbGciOiJub25lIn0", exitUsage, "is a token itself"},
		{"no shell", nothing, "completion", exitUsage, "completion takes a shell"},
		{"a shell that is not known", nothing, "completion csh", exitUsage, "completion takes a shell"},
		{"two shells", nothing, "completion bash zsh", exitUsage, "unknown command"},
		{"another volume of the Pod is not there either", func(f *fakeServer) { f.stuck = true },
			"publish vault/v " + agentUID + " other --wait --timeout=200ms", exitNotReady, "shows how far it is\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			tt.setup(f)
			code, _, stderr := ctl(t, f.serve(t), strings.Fields(tt.args)...)
			if code != tt.code || !strings.Contains(stderr, tt.says) || strings.HasSuffix(tt.says, "\n") && !strings.HasSuffix(stderr, tt.says) {
				t.Errorf("exit %d, want %d; it says %q, want %q in it", code, tt.code, stderr, tt.says)
			}
		})
	}
}

// TestNobodyThere: what it says when it does not get as far as a projectord.
func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, socket := range map[string]string{"no socket": filepath.Join(dir, "none"), "a socket of a dead process": dead} {
		for _, command := range []string{"list", "watch", "unpublish default/web/v"} {
			code, stdout, stderr := ctl(t, socket, strings.Fields(command)...)
			if want := "nobody listens on " + socket; code != exitUnreachable || stdout != "" || !strings.Contains(stderr, want) {
				t.Errorf("%s: %s: exit %d, %q, %q", name, command, code, stdout, stderr)
			}
		}
		code, stdout, _ := ctl(t, socket, "version", "--server")
		if code != exitOK || !strings.Contains(stdout, "SKIP: nobody listens on "+socket) {
			t.Errorf("%s: version: exit %d, %q", name, code, stdout)
		}
		if code, stdout, _ := ctl(t, socket, "completion", "bash"); code != exitOK || !strings.Contains(stdout, "__start_projectorctl") {
			t.Errorf("%s: completion: exit %d, %.100q", name, code, stdout)
		}
	}
	// Root, which may run this test, is permitted everything.
	c := &client{socket: dead, dialErr: &net.OpError{Err: os.NewSyscallError("connect", syscall.EACCES)}}
	if err := c.unreachable(); !errors.Is(c.dialErr, fs.ErrPermission) || !strings.Contains(err.Error(), "be root, or in the socket's group") {
		t.Errorf("not permitted: %v", err)
	}
}

func TestJSON(t *testing.T) {
	f := newFake()
	socket := f.serve(t)
	for args, want := range map[string]proto.Message{
		"list -o json": &api.ListVolumesResponse{Volumes: f.volumes},
		"get default/web/kube-api-access-s9spx -o json": &api.GetVolumeResponse{Volume: f.volumes[2]},
		"publish default/web " + webUID + " -o json":    &api.PublishVolumeResponse{Volumes: f.volumes[2:]},
	} {
		code, stdout, stderr := ctl(t, socket, strings.Fields(args)...)
		got := want.ProtoReflect().New().Interface()
		if err := protojson.Unmarshal([]byte(stdout), got); code != exitOK || err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: exit %d, %v, %s\n%s", args, code, err, stdout, stderr)
		}
		if strings.HasPrefix(args, "list") && !strings.HasPrefix(stdout, "{\n  \"volumes\": [\n    {\n      \"id\": {\n        \"podUid\": \"") {
			t.Errorf("%s: the shape is another: %.100s", args, stdout)
		}
	}
	f.volumes = nil
	if _, stdout, _ := ctl(t, socket, "list", "-o", "json"); stdout != "{\n  \"volumes\": [],\n  \"nextPageToken\": \"\"\n}\n" {
		t.Errorf("without volumes: %s", stdout)
	}
	if _, stdout, _ := ctl(t, socket, "list"); stdout != "no volumes\n" {
		t.Errorf("without volumes: %s", stdout)
	}
}

func TestVersion(t *testing.T) {
	_, stdout, _ := ctl(t, newFake().serve(t), "version", "--server")
	for _, want := range []string{"projectorctl:", "  go:", "projectord:        v1.2.3\n  node:            node-1\n" +
		"  identity:        node, as system:node:node-1\n  features:        csi, stream-content\n" +
		"  root directory:  /var/lib/projectord\n  removal:         10m0s after a Pod is gone\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%s\nlacks %q", stdout, want)
		}
	}
}

func TestPrintBuild(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0a1b2c"}, {Key: "vcs.time", Value: "2026"}, {Key: "vcs.modified", Value: "true"},
	}}
	for want, info := range map[string]*debug.BuildInfo{
		"projectorctl:\tv1.2.3\n  commit:\t0a1b2c, with changes\n":   info,
		"projectorctl:\t(devel)\n  commit:\tnot recorded: built out": nil,
	} {
		var out strings.Builder
		if printBuild(&out, info); !strings.HasPrefix(out.String(), want) {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}

// TestHelp: each command has an example.
func TestHelp(t *testing.T) {
	for _, c := range (&app{}).rootCommand().Commands() {
		if !strings.Contains(c.Example, "projectorctl "+c.Name()) {
			t.Errorf("%s has no example", c.Name())
		}
	}
}

func TestLayOut(t *testing.T) {
	rows := [][]string{{"POD", "VOLUME", "PHASE"}, {"vault/vault-agent-5d8c7f9b6d-x7x2p", "kube-api-access-s9spx", "ready"}}
	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, "POD                                 VOLUME                 PHASE|vault/vault-agent-5d8c7f9b6d-x7x2p  kube-api-access-s9spx  ready"},
		{50, "POD                   VOLUME                 PHASE|vault/vau…9b6d-x7x2p  kube-api-access-s9spx  ready"},
		{20, "POD     VOLUME  PHAS|va…x2p  ku…spx  read"},
	} {
		got := layOut(rows, tt.width)
		if strings.Join(got, "|") != tt.want {
			t.Errorf("width %d:\n%s, want\n%s", tt.width, strings.Join(got, "|"), tt.want)
		}
		for _, line := range got {
			if n := len([]rune(line)); tt.width > 0 && n > tt.width {
				t.Errorf("width %d: a line of %d characters", tt.width, n)
			}
		}
	}
}

func TestFromNow(t *testing.T) {
	for d, want := range map[time.Duration]string{90 * time.Second: "in 1m30s", 0: "in 0s", -3 * time.Second: "3s ago"} {
		if got := fromNow(noon.Add(d), noon); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
