package runtimeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// impostorEnv has this test's program be an impostor: another process, because the
// kernel says of a process who has connected.
const impostorEnv = "RUNTIMEAPI_IMPOSTOR"

func TestMain(m *testing.M) {
	if socket := os.Getenv(impostorEnv); socket != "" {
		if err := json.NewEncoder(os.Stdout).Encode(callAll(socket)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// answer is what an impostor was told.
type answer struct{ Call, Code, Text string }

// callAll calls all that there is, and what is not.
func callAll(socket string) (answers []answer) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return []answer{{Call: "dial", Text: err.Error()}}
	}
	defer func() { _ = conn.Close() }()
	for _, method := range allMethods() {
		for what, request := range allRequests() {
			for encoding, options := range map[string][]grpc.CallOption{"": nil, ", gzip": {grpc.UseCompressor(gzip.Name)}} {
				err := callAny(ctx, conn, method, request, options)
				answers = append(answers, answer{method + ": " + what + encoding, status.Code(err).String(), status.Convert(err).Message()})
			}
		}
	}
	return answers
}

func allMethods() []string {
	methods := []string{"/no.such.Service/Method", "/tokenprojector.v1alpha1.VolumeService/None"}
	for _, service := range []grpc.ServiceDesc{
		api.VolumeService_ServiceDesc, grpc_health_v1.Health_ServiceDesc, grpc_reflection_v1.ServerReflection_ServiceDesc,
	} {
		for _, m := range service.Methods {
			methods = append(methods, "/"+service.ServiceName+"/"+m.MethodName)
		}
		for _, m := range service.Streams {
			methods = append(methods, "/"+service.ServiceName+"/"+m.StreamName)
		}
	}
	return methods
}

func allRequests() map[string]proto.Message {
	publish := func(uid string) proto.Message {
		return &api.PublishVolumeRequest{Pod: &api.PodRef{Namespace: "ns", Name: "web", Uid: uid}}
	}
	get := func(uid string) proto.Message {
		return &api.GetVolumeRequest{Id: &api.VolumeId{PodUid: uid, VolumeName: "v"}}
	}
	malformed := &emptypb.Empty{}
	malformed.ProtoReflect().SetUnknown([]byte{0x0a, 0xff, 0x01})
	large := &emptypb.Empty{}
	large.ProtoReflect().SetUnknown(append([]byte{0x82, 0x01, 0x80, 0x80, 0x08}, make([]byte, 1<<17)...)) // of a field 16
	return map[string]proto.Message{
		"a Pod that is here": publish("here"), "one that is not": publish("not-here"), "its volume": get("here"), "the other's": get("not-here"),
		"malformed": malformed, "large": large, "nothing": &emptypb.Empty{},
	}
}

// callAny calls a method of any kind.
func callAny(ctx context.Context, conn *grpc.ClientConn, method string, request proto.Message, options []grpc.CallOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, options...)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(request) // what is wrong with it is told by RecvMsg
	_ = stream.CloseSend()
	return stream.RecvMsg(&emptypb.Empty{})
}

// impostor runs one with these attributes.
func (r *rig) impostor(attr *syscall.SysProcAttr) []answer {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), "/proc/self/exe") // another user can't find it by its path
	cmd.Env, cmd.SysProcAttr, cmd.Dir = append(os.Environ(), impostorEnv+"="+r.socket), attr, "/"
	cmd.Stderr = r.Output()
	out, err := cmd.Output()
	if err != nil {
		r.Fatalf("an impostor: %v", err)
	}
	var answers []answer
	if err := json.Unmarshal(out, &answers); err != nil {
		r.Fatalf("an impostor said %q: %v", out, err)
	}
	return answers
}

// denied says that an impostor was told the same by all calls, with this in it.
func (r *rig) denied(answers []answer, code, says string) {
	r.Helper()
	for _, a := range answers {
		if a.Code != code || !strings.Contains(a.Text, says) || a.Text != answers[0].Text {
			r.Fatalf("%s: %s %q, want %s %q as with %s: %q", a.Call, a.Code, a.Text, code, says, answers[0].Call, answers[0].Text)
		}
	}
	if len(answers) < 100 {
		r.Errorf("only %d calls were made: %v", len(answers), answers)
	}
}

// served says that an impostor is none.
func (r *rig) served(answers []answer) {
	r.Helper()
	want := answer{Call: "/tokenprojector.v1alpha1.VolumeService/GetInfo: nothing", Code: "OK"}
	if !slices.Contains(answers, want) {
		r.Errorf("it was not served: %v", answers)
	}
}
