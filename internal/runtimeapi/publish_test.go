package runtimeapi

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/payload"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
	"github.com/token-projector/token-projector/rotation"
)

func TestPublish(t *testing.T) {
	r := newRig(t, plain)
	pod := r.addPod("u1", "b", "a")
	_, err := r.client.PublishVolume(t.Context(), &api.PublishVolumeRequest{Pod: pod})
	r.wants("before the API server was reached", err, codes.Unavailable)
	if info := r.info(); info.Node != "n" || info.Identity != "" || info.RemovalGraceSeconds != 60 {
		t.Errorf("info %v", info)
	}
	r.serve()
	if info := r.info(); info.Identity != "node" {
		t.Errorf("info %v", info)
	}

	for range 2 { // it is the same the second time
		got, err := r.client.PublishVolume(t.Context(), &api.PublishVolumeRequest{Pod: pod, WaitReady: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Volumes) != 2 || got.Volumes[0].Id.VolumeName != "a" || got.Volumes[1].Phase != api.Phase_PHASE_READY || got.Volumes[1].HostPath != "/root/b" {
			t.Errorf("volumes %v", got.Volumes)
		}
		if token := got.Volumes[0].Tokens[0]; token.Path != "token" || token.Audience != "vault" || token.RotateAt.Seconds != 3 {
			t.Errorf("token %v", token)
		}
	}
	got, err := r.client.PublishVolume(t.Context(), &api.PublishVolumeRequest{Pod: r.addPod("u2", "v"), VolumeName: "v"})
	if err != nil || len(got.Volumes) != 1 || got.Volumes[0].Phase != api.Phase_PHASE_PENDING || got.Volumes[0].Pod.Name != "web" || got.Volumes[0].HostPath != "" {
		t.Errorf("without waiting: %v, %v", got, err)
	}

	id := &api.VolumeId{PodUid: "u1", VolumeName: "a"}
	for range 2 {
		if _, err := r.client.UnpublishVolume(t.Context(), &api.UnpublishVolumeRequest{Id: id}); err != nil {
			t.Error(err)
		}
	}
	_, err = r.client.GetVolume(t.Context(), &api.GetVolumeRequest{Id: id})
	r.wants("what is gone", err, codes.NotFound)
}

// TestPublishFails by cause.
func TestPublishFails(t *testing.T) {
	r := serving(t, plain)
	good := r.addPod("u", "v")
	r.addPod("without")
	ref := func(namespace, name, uid string) *api.PodRef {
		return &api.PodRef{Namespace: namespace, Name: name, Uid: uid}
	}
	tests := []struct {
		name   string
		pod    *api.PodRef
		volume string
		await  error
		code   codes.Code
		says   string
	}{
		{"no Pod", nil, "", nil, codes.InvalidArgument, "pod is required"},
		{"no namespace", ref("", "web", "u"), "", nil, codes.InvalidArgument, "pod.namespace is required"},
		{"no name", ref("ns", "", "u"), "", nil, codes.InvalidArgument, "pod.name is required"},
		{"no UID", ref("ns", "web", ""), "", nil, codes.InvalidArgument, "pod.uid is required"},
		{"upwards", ref("ns", "web", "../u"), "", nil, codes.InvalidArgument, "pod.uid"},
		{"a NUL", ref("ns", "we\x00b", "u"), "", nil, codes.InvalidArgument, "pod.name"},
		{"a selector", ref("ns", "web,metadata.name=x", "u"), "", nil, codes.InvalidArgument, "pod.name"},
		{"a path for a volume", good, "../v", nil, codes.InvalidArgument, "volume_name"},
		{"a very long name", ref("ns", "web", strings.Repeat("a", 254)), "", nil, codes.InvalidArgument, "at most 253"},
		{"a megabyte", ref("ns", strings.Repeat("a", 1<<20), "u"), "", nil, codes.ResourceExhausted, "larger than max"},
		{"no such Pod", ref("ns", "web", "other"), "", nil, codes.NotFound, "no Pod with this UID"},
		{"another Pod", ref("ns", "other", "u"), "", nil, codes.FailedPrecondition, "another Pod"},
		{"no such volume", good, "none", nil, codes.FailedPrecondition, `no projected volume "none"`},
		{"a Pod without one", ref("ns", "web", "without"), "", nil, codes.FailedPrecondition, "automountServiceAccountToken"},
		{"a source that fails", good, "", &payload.SourceError{Kind: "configMap", Err: errSource}, codes.FailedPrecondition, "no key"},
		{"a Pod that ends", good, "", projector.ErrTerminating, codes.FailedPrecondition, "terminating"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.node.mu.Lock()
			r.node.err = tt.await
			r.node.mu.Unlock()
			_, err := r.client.PublishVolume(t.Context(), &api.PublishVolumeRequest{Pod: tt.pod, VolumeName: tt.volume, WaitReady: true})
			r.wants(tt.name, err, tt.code)
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
		})
	}
}

// TestTwoCallers publish one volume at once; who removes it meanwhile is told.
func TestTwoCallers(t *testing.T) {
	r := serving(t, plain)
	pod, id := r.addPod("u", "v"), &api.VolumeId{PodUid: "u", VolumeName: "v"}
	r.node.hangs = make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := r.client.PublishVolume(t.Context(), &api.PublishVolumeRequest{Pod: pod, WaitReady: true}); err != nil {
				t.Error(err)
			}
		})
	}
	r.eventually("both", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		u := r.server.busy[projector.Key{PodUID: "u", Volume: "v"}]
		return u != nil && u.publishing == 2
	})
	_, err := r.client.UnpublishVolume(t.Context(), &api.UnpublishVolumeRequest{Id: id})
	r.wants("unpublished meanwhile", err, codes.Aborted)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = r.client.PublishVolume(ctx, &api.PublishVolumeRequest{Pod: pod, WaitReady: true})
	r.wants("the caller's deadline", err, codes.DeadlineExceeded)
	close(r.node.hangs)
	wg.Wait()
	if _, err := r.client.UnpublishVolume(t.Context(), &api.UnpublishVolumeRequest{Id: id}); err != nil {
		t.Error(err)
	}
}

func TestListInPages(t *testing.T) {
	r := serving(t, plain)
	for _, uid := range []string{"a", "b", "c", "d", "e"} {
		r.node.set(ready(projector.Key{PodUID: "u-" + "x", Volume: uid}, "..1"))
	}
	r.node.set(ready(projector.Key{PodUID: "other", Volume: "v"}, "..1"))
	var names []string
	request := &api.ListVolumesRequest{PodUid: "u-x", PageSize: 2}
	for pages := 1; ; pages++ {
		page, err := r.client.ListVolumes(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Volumes {
			names = append(names, v.Id.VolumeName)
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if strings.Join(names, "") != "abcde" {
		t.Errorf("volumes %q", names)
	}
	for _, bad := range []*api.ListVolumesRequest{{PageSize: -1}, {PageToken: "%%"}, {PodUid: "../x"}} {
		_, err := r.client.ListVolumes(t.Context(), bad)
		r.wants("a bad request", err, codes.InvalidArgument)
	}
}

func TestRotate(t *testing.T) {
	r := serving(t, plain)
	r.node.set(ready(projector.Key{PodUID: "u", Volume: "v"}, "..1"))
	one := &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_Id{Id: &api.VolumeId{PodUid: "u", VolumeName: "v"}}}
	all := &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_All{All: true}}
	for request, tokens := range map[*api.RotateVolumeRequest]int32{one: 1, all: 9} {
		if got, err := r.client.RotateVolume(t.Context(), request); err != nil || got.Tokens != tokens {
			t.Errorf("%v, %v; want %d", got, err, tokens)
		}
		_, err := r.client.RotateVolume(t.Context(), request)
		r.wants("again at once", err, codes.ResourceExhausted)
	}
	r.node.mu.Lock()
	if r.node.pace != rotation.ForcedPace {
		t.Errorf("pace %s", r.node.pace)
	}
	r.node.mu.Unlock()
	for _, pace := range []*durationpb.Duration{{}, {Seconds: -1}, {Seconds: 61}, {Nanos: 2e9}} {
		_, err := r.client.RotateVolume(t.Context(), &api.RotateVolumeRequest{Target: all.Target, Pace: pace})
		r.wants(pace.String(), err, codes.InvalidArgument)
	}
	r.node.set(projector.VolumeStatus{Key: projector.Key{PodUID: "u", Volume: "pending"}})
	_, err := r.client.RotateVolume(t.Context(), &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_Id{Id: &api.VolumeId{PodUid: "u", VolumeName: "pending"}}})
	r.wants("nothing published yet", err, codes.FailedPrecondition)
	_, err = r.client.RotateVolume(t.Context(), &api.RotateVolumeRequest{})
	r.wants("nothing", err, codes.InvalidArgument)
	_, err = r.client.RotateVolume(t.Context(), &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_Id{Id: &api.VolumeId{PodUid: "u", VolumeName: "none"}}})
	r.wants("no such volume", err, codes.NotFound)
}
