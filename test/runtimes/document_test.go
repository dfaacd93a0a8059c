//go:build runtimes

package runtimes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/document"
	"github.com/token-projector/token-projector/test/runtimes/microvm"
	"github.com/token-projector/token-projector/test/runtimes/provider"
)

// blocks are those of docs/runtimes.md in one language.
func (r *rig) blocks(language string) []string {
	r.Helper()
	all, err := document.Blocks(r.Context(), "runtimes.md", language)
	r.must(err)
	return all
}

// TestDocument does what docs/runtimes.md says on the command line.
func TestDocument(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, "/run/projectord/admin/projectord.sock") // the default
	_, err := daemon.BuildCommand(r.ctx, r.dir, "projectorctl", false)
	r.must(err)
	pod, volume := r.pod()
	commands := r.blocks("sh")
	if len(commands) != 2 {
		t.Fatalf("%d blocks, want two: to publish, and to unpublish", len(commands))
	}
	for i, want := range []string{"ca.crt\nnamespace\ntoken\n", "unpublished "} {
		cmd := exec.CommandContext(r.ctx, "bash", "-euo", "pipefail", "-c", commands[i])
		cmd.Env = append(os.Environ(), "PATH="+r.dir+":"+os.Getenv("PATH"), "pod="+r.ns+"/web", "uid="+string(pod.UID), "volume="+volume)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%s\n%v: %s", commands[i], err, out)
		}
	}
	r.nothingLeft()
}

// TestDocumentedUnit has systemd check the unit of docs/runtimes.md.
func TestDocumentedUnit(t *testing.T) {
	t.Parallel()
	r := &rig{T: t}
	units := r.blocks("ini")
	if len(units) != 1 {
		t.Fatalf("%d units, want one", len(units))
	}
	for name, broken := range map[string]bool{"agent": false, "broken": true} {
		dir := t.TempDir()
		unit := units[0]
		if broken {
			unit = strings.Replace(unit, "BindReadOnlyPaths=", "BindReadOnlyPath=", 1)
		}
		r.must(os.WriteFile(filepath.Join(dir, "projectord.service"), []byte("[Service]\nExecStart=/usr/bin/true\n"), 0600))
		file := filepath.Join(dir, name+".service")
		r.must(os.WriteFile(file, []byte(unit), 0600))
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", file).CombinedOutput()
		if complains := err != nil || strings.Contains(string(out), name+".service"); complains != broken {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// TestDocumentedCode: the Go code of docs/runtimes.md is that of packages that are
// compiled here, and run by the other tests.
func TestDocumentedCode(t *testing.T) {
	t.Parallel()
	r := &rig{T: t}
	code := r.blocks("go")
	for i, file := range []string{"provider/provider.go", "microvm/microvm.go"} {
		text, err := os.ReadFile(file)
		r.must(err)
		if len(code) != 2 || !strings.Contains(string(text), code[i]) {
			t.Errorf("block %d of %d is not in %s", i, len(code), file)
		}
	}
}

// TestProvider runs a Pod by the provider of docs/runtimes.md, twice, and one that wants
// no token.
func TestProvider(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var seen map[string]string
	p := &provider.Provider{
		Volumes: r.volumes,
		Run: func(_ context.Context, _ *corev1.Pod, directories map[string]string) error {
			seen = directories
			return nil
		},
		Stop: func(context.Context, *corev1.Pod) error { return nil },
	}
	pod, volume := r.pod()
	for range 2 {
		r.must(p.CreatePod(r.ctx, pod))
		if token, err := os.ReadFile(filepath.Join(seen[volume], "token")); err != nil || len(token) == 0 {
			t.Errorf("a Pod is run with %v: %v", seen, err)
		}
	}
	for range 2 {
		r.must(p.DeletePod(r.ctx, pod))
		r.nothingLeft()
	}
	without := pod.DeepCopy()
	without.Spec.Volumes = nil
	r.must(p.CreatePod(r.ctx, without))
	if len(seen) > 0 {
		t.Errorf("a Pod without a token is run with %v", seen)
	}
}

// TestMicroVM has a directory follow a volume by the code of docs/runtimes.md.
func TestMicroVM(t *testing.T) {
	t.Parallel()
	r := newRig(t, "--stream-content-uids=0")
	pod, volume := r.pod()
	ref := &api.PodRef{Namespace: pod.Namespace, Name: pod.Name, Uid: string(pod.UID)}
	_, err := r.volumes.PublishVolume(r.ctx, &api.PublishVolumeRequest{Pod: ref, WaitReady: true})
	r.must(err)
	ctx, cancel := context.WithCancel(r.ctx)
	stream, err := r.volumes.StreamVolumeContent(ctx, &api.StreamVolumeContentRequest{Id: &api.VolumeId{PodUid: string(pod.UID), VolumeName: volume}})
	r.must(err)
	guest, ended := t.TempDir(), make(chan error, 1)
	go func() { ended <- microvm.Follow(guest, stream.Recv) }()
	tokens := map[string]bool{}
	r.eventually("two rotations", func() bool {
		token, err := os.ReadFile(filepath.Join(guest, "token"))
		if err == nil {
			tokens[string(token)] = true
		}
		return len(tokens) > 2
	})
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("following ended with %v", err)
	}
	_, err = r.volumes.UnpublishVolume(r.ctx, &api.UnpublishVolumeRequest{Id: &api.VolumeId{PodUid: string(pod.UID), VolumeName: volume}})
	r.must(err)
	r.nothingLeft()
}
