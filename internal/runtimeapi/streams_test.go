package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/projector"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

var watched = projector.Key{PodUID: "u", Volume: "v"}

// watch begins a watch, and returns what it is told: the type, the volume's name and
// its generation.
func (r *rig) watch(ctx context.Context, podUID string) (next func() string, stream grpc.ServerStreamingClient[api.WatchVolumesResponse]) {
	r.Helper()
	stream, err := r.client.WatchVolumes(ctx, &api.WatchVolumesRequest{PodUid: podUID})
	if err != nil {
		r.Fatal(err)
	}
	return func() string {
		r.Helper()
		event, err := stream.Recv()
		if err != nil {
			return status.Code(err).String()
		}
		v := event.GetVolume()
		return fmt.Sprintf("%s %s %s", event.Type.String()[len("EVENT_TYPE_"):], v.GetId().GetVolumeName(), v.GetGeneration())
	}, stream
}

func (r *rig) wantsEvent(next func() string, want string) {
	r.Helper()
	if got := next(); got != want {
		r.Errorf("event %q, want %q", got, want)
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t, plain)
	r.node.set(ready(watched, "..1")) // before anything is served
	r.serve()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	next, _ := r.watch(ctx, "")
	r.wantsEvent(next, "ADDED v ..1")
	r.wantsEvent(next, "INITIAL_SYNC_COMPLETE  ")
	other, _ := r.watch(ctx, "other")
	r.wantsEvent(other, "INITIAL_SYNC_COMPLETE  ")

	r.server.Changed(watched) // but it has not: no event
	r.node.set(ready(watched, "..2"))
	r.wantsEvent(next, "MODIFIED v ..2")
	r.node.set(ready(projector.Key{PodUID: "other", Volume: "w"}, "..1"))
	r.wantsEvent(next, "ADDED w ..1")
	if err := r.node.Unpublish(ctx, watched); err != nil {
		t.Error(err)
	}
	r.wantsEvent(next, "DELETED v ..2")
	r.wantsEvent(other, "ADDED w ..1") // and nothing of the other Pod's

	bad, _ := r.watch(ctx, "../x")
	r.wantsEvent(bad, "InvalidArgument")
	r.end()
	r.wantsEvent(next, "Unavailable")
}

// TestSlowWatcher is cut off, and nobody waits for it.
func TestSlowWatcher(t *testing.T) {
	r := serving(t, plain)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	slow, stream := r.watch(ctx, "")
	r.wantsEvent(slow, "INITIAL_SYNC_COMPLETE  ")
	quick, _ := r.watch(ctx, "")
	r.wantsEvent(quick, "INITIAL_SYNC_COMPLETE  ")
	// More than what the kernel and gRPC take in for the slow one. The quick one reads
	// each before the next.
	cut := func() bool {
		r.server.hub.mu.Lock()
		defer r.server.hub.mu.Unlock()
		return len(r.server.hub.watchers) == 1
	}
	for n := 1; !cut(); n++ {
		r.node.set(ready(watched, fmt.Sprintf("..%d", n)))
		quick()
		if n > 100*maxBacklog {
			t.Fatal("it is not cut off")
		}
	}
	r.eventually("its end", func() bool {
		_, err := stream.Recv()
		if err != nil && status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("it ends with %v", err)
		}
		return err != nil
	})
}

// TestStreamContent is for who is let, and has each set of files.
func TestStreamContent(t *testing.T) {
	me := uint32(os.Geteuid())
	r := serving(t, func(c *Config) { c.ContentUIDs = []uint32{me} })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := r.client.StreamVolumeContent(ctx, &api.StreamVolumeContentRequest{Id: &api.VolumeId{PodUid: "u", VolumeName: "v"}})
	if err == nil {
		_, err = stream.Recv()
	}
	r.wants("no such volume", err, codes.NotFound)

	if err := r.node.Publish(watched); err != nil { // with nothing in it yet
		t.Fatal(err)
	}
	if stream, err = r.client.StreamVolumeContent(ctx, &api.StreamVolumeContentRequest{Id: &api.VolumeId{PodUid: "u", VolumeName: "v"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"..1", "..2"} {
		r.node.mu.Lock()
		r.node.content[watched] = "token of " + want
		r.node.mu.Unlock()
		r.node.set(ready(watched, want))
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if f := got.Files[0]; got.Generation != want || string(f.Data) != "token of "+want || f.Path != "token" || f.Mode != 0600 || f.Uid != 7 || f.Gid != -1 {
			t.Errorf("content %v", got)
		}
	}
	if err := r.node.Unpublish(ctx, watched); err != nil {
		t.Error(err)
	}
	_, err = stream.Recv()
	r.wants("a volume that goes", err, codes.NotFound)
}

// TestStreamContentIsOff unless a user is named.
func TestStreamContentIsOff(t *testing.T) {
	for name, tt := range map[string]struct {
		uids []uint32
		code codes.Code
	}{"nobody is let": {nil, codes.Unimplemented}, "somebody else is": {[]uint32{12345}, codes.PermissionDenied}} {
		t.Run(name, func(t *testing.T) {
			r := serving(t, func(c *Config) { c.ContentUIDs = tt.uids })
			r.node.set(ready(watched, "..1"))
			stream, err := r.client.StreamVolumeContent(t.Context(), &api.StreamVolumeContentRequest{Id: &api.VolumeId{PodUid: "u", VolumeName: "v"}})
			if err == nil {
				_, err = stream.Recv()
			}
			if errors.Is(err, io.EOF) {
				t.Error("it ended without a word")
			}
			r.wants(name, err, tt.code)
		})
	}
}
