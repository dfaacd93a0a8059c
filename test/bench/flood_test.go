package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// floodEnv has this program flood the socket that it names until its standard input
// ends: as another process, because limits are of those.
const floodEnv = "BENCH_FLOOD_SOCKET"

// What a flood is made of.
const (
	floodIdle     = 500
	floodWatchers = 500
	floodCallers  = 8
)

// Users of the flood: one who may call, and one who may not.
const allowedUID, deniedUID = 4242, 4343

// BenchmarkSocketFlood measures a call of a runtime while 500 connections are idle, 500
// watchers never read and, as root, as another user who may call and as one who may
// not, 8 callers each call in a loop. Nobody gives up: what has not been answered
// after 10 seconds fails.
func BenchmarkSocketFlood(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Fatal("needs root to flood as other users")
	}
	for b.Loop() {
		socketFlood(b)
	}
}

func socketFlood(b *testing.B) {
	const calls = 500
	r := newControlPlane(b)
	client := r.startForRuntimes("--socket-allow-uids=" + strconv.Itoa(allowedUID))
	for dir := filepath.Dir(filepath.Dir(r.socket())); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		r.must(os.Chmod(dir, 0711)) //nolint:gosec // the test's own, which others must come through, as through /run
	}
	r.namespace("bench")
	pod, _ := r.post("bench", "pod")
	r.publish(client, pod)
	measure := func() []time.Duration {
		var out []time.Duration
		for range calls {
			_, took := r.publish(client, pod)
			out = append(out, took)
			time.Sleep(4 * time.Millisecond) // a runtime below its own limit
		}
		return out
	}
	quiet := measure()
	for _, uid := range []uint32{0, allowedUID, deniedUID} {
		r.flood(uid)
	}
	others := measure()
	result(b, "socket_flood", fig("idle", "%.0f", 3*floodIdle), fig("watchers", "%.0f", 3*floodWatchers), fig("callers", "%.0f", 3*floodCallers),
		fig("calls", "%.0f", calls), fig("quiet_p99_ms", "%.1f", ms(percentile(quiet, 99))),
		fig("others_p50_ms", "%.1f", ms(percentile(others, 50))), fig("others_p99_ms", "%.1f", ms(percentile(others, 99))).within(50),
		fig("rss_mib", "%.0f", r.rssMiB()).atMost(150))
}

// flood begins a flood as a user, which ends with the benchmark.
func (r *rig) flood(uid uint32) {
	r.Helper()
	cmd := exec.Command("/proc/self/exe") // which another user can't find by its path
	cmd.Env, cmd.Dir, cmd.Stderr = append(os.Environ(), floodEnv+"="+r.socket()), "/", os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := cmd.StdinPipe()
	r.must(err)
	out, err := cmd.StdoutPipe()
	r.must(err)
	r.must(cmd.Start())
	r.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			r.Errorf("the flood as uid %d: %v", uid, err)
		}
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it says when all of it is there
		r.Fatalf("the flood as uid %d: %v", uid, err)
	}
}

// flood is that process. What is refused to it is as it should be.
func flood(socket string) error {
	var idle []net.Conn
	for range floodIdle {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		idle = append(idle, conn)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for range floodWatchers / 100 {
		conn, err := dialFlood(socket)
		if err != nil {
			return err
		}
		for range 100 {
			running.Go(func() {
				if stream, err := api.NewVolumeServiceClient(conn).WatchVolumes(ctx, &api.WatchVolumesRequest{}); err == nil {
					<-stream.Context().Done()
				}
			})
		}
	}
	for range floodCallers {
		conn, err := dialFlood(socket)
		if err != nil {
			return err
		}
		running.Go(func() {
			for ctx.Err() == nil {
				_, _ = api.NewVolumeServiceClient(conn).ListVolumes(ctx, &api.ListVolumesRequest{PageSize: 1000})
			}
		})
	}
	if _, err := fmt.Println("flooding"); err != nil {
		return err
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err == nil {
		return errors.New("standard input has something")
	}
	for _, conn := range idle {
		_ = conn.Close()
	}
	return nil
}

func dialFlood(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}
