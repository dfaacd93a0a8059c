package csi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// grpcLog is what gRPC logs at its highest verbosity, of all tests.
var grpcLog = newLogs()

// TestMain sets gRPC's logger, which must be before gRPC is used.
func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2WithVerbosity(grpcLog, grpcLog, grpcLog, 99))
	os.Exit(m.Run())
}

// Markers of the values in a request. What is confidential may be nowhere; the rest
// of volume_context is in the Pod's spec, so errors may quote it and the log may not.
const (
	confidential = "CONFIDENTIAL"
	attribute    = "ATTRIBUTE"
)

// markedPublish is a request that is right, with a marker in every value.
func (r *rig) markedPublish() *csi.NodePublishVolumeRequest {
	request := r.publish()
	request.Secrets = map[string]string{"password": confidential, "csi.storage.k8s.io/serviceAccount.tokens": confidential}
	request.PublishContext = map[string]string{"device": confidential}
	maps.Copy(request.VolumeContext, map[string]string{
		"csi.storage.k8s.io/serviceAccount.tokens": `{"vault": {"token": "` + confidential + `", "expirationTimestamp": "` + confidential + `"}}`,
		"csi.storage.k8s.io/serviceAccount.name":   attribute,
		"csi.storage.k8s.io/pod.name":              attribute,
		"csi.storage.k8s.io/pod.namespace":         attribute,
		"csi.storage.k8s.io/later":                 confidential,
		"sources":                                  "- serviceAccountToken: {path: " + attribute + ", audience: " + attribute + "}",
		"defaultMode":                              "0400",
	})
	return request
}

// TestNothingConfidentialIsSaid: neither the log, at any verbosity, nor an error, which
// goes into the Pod's Events and the kubelet's log, has what a request must not tell.
func TestNothingConfidentialIsSaid(t *testing.T) {
	r := newRig(t)
	var errs []string
	made := map[codes.Code]int{}
	publish := func(mutate func(*csi.NodePublishVolumeRequest), opts ...grpc.CallOption) {
		request := r.markedPublish()
		mutate(request)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.node.NodePublishVolume(ctx, request, opts...)
		made[status.Code(err)]++
		errs = append(errs, fmt.Sprint(err))
	}
	good := func(*csi.NodePublishVolumeRequest) {}
	with := func(name, value string) func(*csi.NodePublishVolumeRequest) {
		return func(q *csi.NodePublishVolumeRequest) { q.VolumeContext[name] = value }
	}

	publish(good) // which is Unavailable
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	publish(good)
	for _, mutate := range []func(*csi.NodePublishVolumeRequest){
		func(q *csi.NodePublishVolumeRequest) { q.VolumeId = "" },
		func(q *csi.NodePublishVolumeRequest) { q.TargetPath = "" },
		func(q *csi.NodePublishVolumeRequest) { q.TargetPath = "/etc" },
		func(q *csi.NodePublishVolumeRequest) { q.VolumeCapability = nil },
		func(q *csi.NodePublishVolumeRequest) { q.Readonly = false },
		with(attributeEphemeral, confidential),
		with(attributePodUID, attribute),
		with("token", confidential),
		with("serviceAccount.tokens", confidential),
		with("csi.storage.k8s.io", confidential),
		with("defaultMode", attribute),
		with("sources", confidential),
		with("sources", "["+confidential),
		with("sources", "- "+confidential),
		with("sources", attribute+": x"),
		with("sources", "- "+attribute+": {}"),
		with("sources", "- serviceAccountToken: "+confidential),
		with("sources", "- serviceAccountToken: {path: t, expirationSeconds: "+confidential+"}"),
		with("sources", "- serviceAccountToken: {path: ../"+attribute+"}"),
		with("sources", `- "\`+confidential+`"`),
		with("sources", "- *"+attribute),
		with("sources", "!!"+confidential+" x"),
		with("sources", "\xff"+confidential),
	} {
		publish(mutate)
	}
	publish(good, grpc.ForceCodec(cutCodec{})) // what can't be parsed
	publish(with("sources", strings.Repeat(confidential, maxMessage)))
	r.volumes.behave(errors.New("the ConfigMap does not exist"), false)
	publish(good)
	r.volumes.behave(nil, true)
	publish(good)                                    // which takes too long
	for _, registered := range []bool{true, false} { // which are logged
		if _, err := r.driver.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{PluginRegistered: registered}); err != nil {
			t.Fatal(err)
		}
	}
	r.end()

	for _, code := range []codes.Code{codes.OK, codes.Unavailable, codes.InvalidArgument, codes.Internal, codes.ResourceExhausted, codes.DeadlineExceeded} {
		if made[code] == 0 {
			t.Errorf("no request ended as %s: %v", code, made)
		}
	}
	for _, err := range errs {
		if strings.Contains(err, confidential) {
			t.Errorf("error: %s", err)
		}
	}
	for name, log := range map[string]string{"log": r.log.String(), "gRPC's log": grpcLog.String()} {
		if log == "" || strings.Contains(log, confidential) || strings.Contains(log, attribute) {
			t.Errorf("%s:\n%s", name, log)
		}
	}
}

// TestErrorsAreBrief: a Pod's author can't fill the kubelet's log.
func TestErrorsAreBrief(t *testing.T) {
	r := newRig(t)
	if err := r.driver.Adopt(r.volumes); err != nil {
		t.Fatal(err)
	}
	request := r.publish()
	request.VolumeContext["sources"] = "- serviceAccountToken: {path: ../" + strings.Repeat("é", maxMessage/4) + "}"
	_, err := call(t, r.node.NodePublishVolume, request)
	if text := fmt.Sprint(err); len(text) > 2*maxText || !utf8.ValidString(text) || !strings.Contains(text, "sources[0]: serviceAccountToken.path") {
		t.Errorf("%d bytes: %.200s", len(text), text)
	}
}

// cutCodec makes messages of which the end is missing.
type cutCodec struct{}

func (cutCodec) Name() string { return "proto" }

func (cutCodec) Marshal(message any) ([]byte, error) {
	b, err := proto.Marshal(message.(proto.Message))
	return b[:len(b)-1], err
}

func (cutCodec) Unmarshal(b []byte, message any) error {
	return proto.Unmarshal(b, message.(proto.Message))
}
