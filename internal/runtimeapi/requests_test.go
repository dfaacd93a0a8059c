package runtimeapi

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// validRequests has one for each method, of a volume that there is. A message for a
// method that is not here fails the tests.
func validRequests() map[string]proto.Message {
	id := &api.VolumeId{PodUid: "u", VolumeName: "v"}
	return map[string]proto.Message{
		"GetInfo":             &api.GetInfoRequest{},
		"PublishVolume":       &api.PublishVolumeRequest{Pod: &api.PodRef{Namespace: "ns", Name: "web", Uid: "u"}, VolumeName: "v"},
		"UnpublishVolume":     &api.UnpublishVolumeRequest{Id: id},
		"GetVolume":           &api.GetVolumeRequest{Id: id},
		"ListVolumes":         &api.ListVolumesRequest{PodUid: "u", PageToken: "dS92"},
		"RotateVolume":        &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_Id{Id: id}},
		"WatchVolumes":        &api.WatchVolumesRequest{PodUid: "u"},
		"StreamVolumeContent": &api.StreamVolumeContentRequest{Id: id},
	}
}

// optional are the text fields that may be empty.
var optional = map[protoreflect.FullName]bool{
	"tokenprojector.v1alpha1.PublishVolumeRequest.volume_name": true,
	"tokenprojector.v1alpha1.ListVolumesRequest.pod_uid":       true,
	"tokenprojector.v1alpha1.ListVolumesRequest.page_token":    true,
	"tokenprojector.v1alpha1.WatchVolumesRequest.pod_uid":      true,
}

// requestRig has a Pod with a volume that is published.
func requestRig(t *testing.T) *rig {
	t.Helper()
	r := serving(t, func(c *Config) {
		c.ContentUIDs, c.Logger = []uint32{uint32(os.Geteuid())}, slog.New(slog.DiscardHandler)
	})
	r.addPod("u", "v")
	r.node.set(ready(projector.Key{PodUID: "u", Volume: "v"}, "..1"))
	return r
}

// TestEachField of each request, missing, malformed and hostile.
func TestEachField(t *testing.T) {
	r := requestRig(t)
	conn := r.dial()
	hostile := map[string]codes.Code{
		"": codes.InvalidArgument, "../v": codes.InvalidArgument, "..": codes.InvalidArgument, "/": codes.InvalidArgument,
		"a\x00b": codes.InvalidArgument, "a\nb": codes.InvalidArgument, "%s": codes.InvalidArgument, "-a": codes.InvalidArgument,
		"ä": codes.InvalidArgument, strings.Repeat("a", maxName+1): codes.InvalidArgument, strings.Repeat("a", 1<<20): codes.ResourceExhausted,
	}
	methods := api.File_tokenprojector_v1alpha1_volumes_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		method := string(methods.Get(i).Name())
		valid := validRequests()[method]
		if valid == nil {
			t.Errorf("%s has no request here", method)
			continue
		}
		fields := 0
		forEachText(valid.ProtoReflect(), func(parent protoreflect.Message, field protoreflect.FieldDescriptor) {
			fields++
			good := parent.Get(field)
			for bad, want := range hostile {
				if bad == "" && optional[field.FullName()] {
					continue
				}
				parent.Set(field, protoreflect.ValueOfString(bad))
				err := callAny(t.Context(), conn, methodPath(method), valid, nil)
				r.wants(fmt.Sprintf("%s with %s %.20q", method, field.FullName(), bad), err, want)
			}
			parent.Set(field, good)
		})
		forEachMessage(valid.ProtoReflect(), func(field protoreflect.FieldDescriptor) {
			without := proto.Clone(valid)
			without.ProtoReflect().Clear(field)
			r.wants(method+" without "+string(field.FullName()), callAny(t.Context(), conn, methodPath(method), without, nil), codes.InvalidArgument)
		})
		if fields == 0 && method != "GetInfo" {
			t.Errorf("%s has no field that was tried", method)
		}
	}
	if volumes := r.node.Volumes(); len(volumes) != 1 || volumes[0].Generation != "..1" || r.node.removed > 0 {
		t.Errorf("something was done: %v", volumes)
	}
}

func methodPath(name string) string { return "/tokenprojector.v1alpha1.VolumeService/" + name }

// forEachText calls f for each text field that is set, with the message it is in.
func forEachText(m protoreflect.Message, f func(protoreflect.Message, protoreflect.FieldDescriptor)) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch field.Kind() {
		case protoreflect.StringKind:
			f(m, field)
		case protoreflect.MessageKind:
			forEachText(value.Message(), f)
		}
		return true
	})
}

// forEachMessage calls f for each field that is a message.
func forEachMessage(m protoreflect.Message, f func(protoreflect.FieldDescriptor)) {
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if field.Kind() == protoreflect.MessageKind {
			f(field)
		}
		return true
	})
}

// FuzzRequests sends any request to a server. None may make it fail by itself, or do
// something to a volume whose name is none.
func FuzzRequests(f *testing.F) {
	methods := api.File_tokenprojector_v1alpha1_volumes_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		wire, err := proto.Marshal(validRequests()[string(methods.Get(i).Name())])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), wire) //nolint:gosec // there are eight
	}
	f.Fuzz(func(t *testing.T, which uint8, wire []byte) {
		method := methods.Get(int(which) % methods.Len()).Name()
		request := validRequests()[string(method)].ProtoReflect().New().Interface()
		if proto.Unmarshal(wire, request) != nil {
			return // it is gRPC that answers to what is no message
		}
		r := requestRig(t)
		// What is asked for is known, whatever its name is, so that the call goes on.
		if publish, ok := request.(*api.PublishVolumeRequest); ok {
			r.addPod(publish.GetPod().GetUid(), cmp.Or(publish.VolumeName, "v"))
			pod := r.node.pods[types.UID(publish.GetPod().GetUid())]
			pod.Namespace, pod.Name = publish.GetPod().GetNamespace(), publish.GetPod().GetName()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := callAny(ctx, r.dial(), methodPath(string(method)), request, nil)
		switch status.Code(err) {
		case codes.Unknown, codes.Internal, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			t.Errorf("%s %v: %v", method, request, err)
		}
		for _, v := range r.node.Volumes() {
			if checkName("", string(v.PodUID)) != nil || checkName("", v.Volume) != nil {
				t.Errorf("%s %v: there is a volume %v", method, request, v.Key)
			}
		}
	})
}
