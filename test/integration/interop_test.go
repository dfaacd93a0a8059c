//go:build interop

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/token-projector/token-projector/test/module"
)

// stranger is a client that has no code of ours.
type stranger struct {
	*world
	socket string
	// command is a program that makes one call, prints each answer as JSON and ends
	// with 64 and the code of an error.
	command func(socket, method, request string) []string
}

// TestInterop has other implementations of gRPC use the socket as a runtime does.
func TestInterop(t *testing.T) {
	root, err := module.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bin, protos := filepath.Join(root, "bin"), filepath.Join(root, "proto")
	const service = "tokenprojector.v1alpha1.VolumeService/"
	grpcurl := func(more ...string) func(socket, method, request string) []string {
		return func(socket, method, request string) []string {
			return append(append([]string{filepath.Join(bin, "grpcurl"), "-plaintext", "-unix", "-max-time=60", "-d", request}, more...), socket, service+method)
		}
	}
	for name, command := range map[string]func(socket, method, request string) []string{
		"grpcurl by reflection": grpcurl(),
		"grpcurl by the proto":  grpcurl("-import-path", protos, "-proto", "tokenprojector/v1alpha1/volumes.proto"),
		"Node.js": func(socket, method, request string) []string {
			return []string{"node", filepath.Join(bin, "interop/client.js"), socket, protos, method, request}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shared)
			s := &stranger{world: w, socket: filepath.Join(w.dir, "admin/s.sock"), command: command}
			w.startReady("--socket="+s.socket, "--pod-source=none")
			s.useAll()
		})
	}
}

// volumeJSON is a volume as far as the test looks at it.
type volumeJSON struct {
	HostPath, Phase, Generation string
	Tokens                      []struct{ Path string }
}

// useAll is a runtime's day.
func (s *stranger) useAll() {
	s.Helper()
	var info struct{ Node string }
	s.call("GetInfo", `{}`, &info)
	if info.Node != s.node {
		s.Errorf("node %q, want %q", info.Node, s.node)
	}
	pod := s.create(s.newPod("pod"))
	id := `{"id": {"podUid": "` + string(pod.UID) + `", "volumeName": "` + pod.Spec.Volumes[0].Name + `"}}`
	s.fails("GetVolume", id, 5, "publish it first")
	s.fails("GetVolume", `{}`, 3, "id is required")

	var published struct{ Volumes []volumeJSON }
	s.call("PublishVolume", `{"pod": {"namespace": "`+s.ns+`", "name": "pod", "uid": "`+string(pod.UID)+`"}, "waitReady": true}`, &published)
	if len(published.Volumes) != 1 || published.Volumes[0].Phase != "PHASE_READY" || len(published.Volumes[0].Tokens) != 1 {
		s.Fatalf("published %+v", published)
	}
	file := filepath.Join(published.Volumes[0].HostPath, "token")
	before := s.waitFile(file)
	var got struct{ Volume volumeJSON }
	s.call("GetVolume", id, &got)
	if got.Volume.Generation != published.Volumes[0].Generation {
		s.Errorf("volume %+v, want %+v", got, published)
	}

	s.watch(id, got.Volume.Generation)
	if s.tokenID(s.waitFile(file)) == s.tokenID(before) {
		s.Error("the token is the same after a rotation")
	}
	s.call("UnpublishVolume", id, &struct{}{})
	if s.exists(file) {
		s.Errorf("%s is left", file)
	}
	s.fails("GetVolume", id, 5, "publish it first")
}

// watch rotates a volume, and watches until that is told.
func (s *stranger) watch(id, generation string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	args := s.command(s.socket, "WatchVolumes", `{}`)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out, err := cmd.StdoutPipe()
	s.must(err)
	s.must(cmd.Start())
	defer func() { _ = cmd.Wait() }() // it was killed
	defer cancel()
	var types []string
	for events := json.NewDecoder(out); ; {
		var event struct {
			Type   string
			Volume volumeJSON
		}
		s.must(events.Decode(&event))
		types = append(types, event.Type)
		switch event.Type {
		case "EVENT_TYPE_INITIAL_SYNC_COMPLETE":
			s.call("RotateVolume", id, &struct{}{})
		case "EVENT_TYPE_MODIFIED":
			if event.Volume.Generation <= generation {
				continue // something else of it
			}
			if types[0] != "EVENT_TYPE_ADDED" || types[1] != "EVENT_TYPE_INITIAL_SYNC_COMPLETE" {
				s.Errorf("events %q", types)
			}
			return
		}
	}
}

// call makes a call, and reads its answer.
func (s *stranger) call(method, request string, answer any) {
	s.Helper()
	out, problem, code := s.run(method, request)
	if code != 0 {
		s.Fatalf("%s %s ended with %d: %s", method, request, code, problem)
	}
	s.must(json.Unmarshal(out, answer))
}

// fails makes a call that has an error.
func (s *stranger) fails(method, request string, code int, says string) {
	s.Helper()
	if _, problem, got := s.run(method, request); got != 64+code || !strings.Contains(problem, says) {
		s.Errorf("%s %s ended with %d: %s; want %d, %q", method, request, got, problem, 64+code, says)
	}
}

func (s *stranger) run(method, request string) (out []byte, problem string, code int) {
	s.Helper()
	args := s.command(s.socket, method, request)
	cmd := exec.CommandContext(s.ctx, args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	return out, stderr.String(), cmd.ProcessState.ExitCode()
}
