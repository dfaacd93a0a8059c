// Command toyruntime runs one process as a Pod: in a root directory of its own, with a
// volume of the Pod that projectord keeps current. It is an example for authors of
// runtimes, see docs/runtimes.md, and leaves out what has nothing to do with volumes,
// such as images, cgroups and the Pod's status.
//
// SIGTERM has it end the process and give the volume back. If it is killed, the process
// goes on; started again, with the same arguments, it takes the process over.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// runtime runs one Pod's process.
type runtime struct {
	volumes api.VolumeServiceClient
	pod     *api.PodRef
	volume  string
	dir     string // <dir>/rootfs is the process's root; its pid and log lie beside
	command []string
}

func main() {
	log.SetFlags(log.Lmicroseconds)
	if len(os.Args) > 3 && os.Args[1] == enterCommand {
		log.Fatal(enter(os.Args[2], os.Args[3], os.Args[4:]))
	}
	socket := flag.String("socket", "/run/projectord/admin/projectord.sock", "projectord's socket")
	dir := flag.String("dir", "", "directory with the root directory of the process, rootfs")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: toyruntime -dir DIR [-socket PATH] NAMESPACE/NAME UID VOLUME COMMAND [ARG...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	namespace, name, ok := strings.Cut(flag.Arg(0), "/")
	if !ok || *dir == "" || flag.NArg() < 4 {
		flag.Usage()
		os.Exit(2)
	}
	// Whoever waits for projectord to be back should not wait long after it is.
	retries := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}}
	conn, err := grpc.NewClient("unix:"+*socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(retries), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		log.Fatal(err)
	}
	r := &runtime{
		volumes: api.NewVolumeServiceClient(conn), pod: &api.PodRef{Namespace: namespace, Name: name, Uid: flag.Arg(1)},
		volume: flag.Arg(2), dir: *dir, command: flag.Args()[3:],
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err = r.run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run runs the Pod until its process or ctx ends:
//
//  1. Take over the process of an earlier run, if it still runs.
//  2. Publish the volume. An earlier run, or the same one before projectord was
//     restarted, may have done so: then this makes the volume ours again.
//  3. Start the process, with the volume as it is now.
//  4. Follow the volume, and begin again with 2 when the stream breaks: then
//     projectord was restarted.
//  5. End the process, and only then give the volume back.
func (r *runtime) run(ctx context.Context) error {
	w, err := adopt(r.dir) // 1
	if err != nil {
		return err
	}
	for ctx.Err() == nil && (w == nil || w.running()) {
		volume, err := r.publish(ctx) // 2
		if err != nil {
			log.Printf("publishing: %v", err)
			break
		}
		if w == nil { // 3
			if w, err = start(r.dir, volume.GetHostPath(), r.command); err != nil {
				log.Printf("starting: %v", err)
				break
			}
		}
		r.follow(ctx, w) // 4
	}
	if w != nil { // 5
		if err := w.end(); err != nil {
			return err
		}
	}
	return r.unpublish()
}

// publish publishes the volume, and tries again what may go by itself. Another error
// means that the Pod must not run here: it is gone, say.
func (r *runtime) publish(ctx context.Context) (volume *api.Volume, err error) {
	err = retry(ctx, func(ctx context.Context) error {
		answer, err := r.volumes.PublishVolume(ctx, &api.PublishVolumeRequest{Pod: r.pod, VolumeName: r.volume, WaitReady: true})
		if err == nil {
			volume = answer.GetVolumes()[0]
			log.Printf("published: %s is %s", volume.GetHostPath(), volume.GetPhase())
		}
		return err
	})
	return volume, err
}

// follow logs what happens to the volume until the stream, the process or ctx ends.
func (r *runtime) follow(ctx context.Context, w *workload) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		w.wait(ctx)
		cancel()
	}()
	stream, err := r.volumes.WatchVolumes(ctx, &api.WatchVolumesRequest{PodUid: r.pod.GetUid()})
	for err == nil {
		var event *api.WatchVolumesResponse
		if event, err = stream.Recv(); err == nil && event.GetVolume().GetId().GetVolumeName() == r.volume {
			log.Printf("%s %s: %s %s", event.GetType(), event.GetVolume().GetPhase(), event.GetVolume().GetGeneration(), event.GetVolume().GetLastError())
		}
	}
	log.Printf("the stream has ended: %v", err)
}

// unpublish gives the volume back. It is the last that a Pod needs, so it takes its time.
func (r *runtime) unpublish() error {
	return retry(context.Background(), func(ctx context.Context) error {
		_, err := r.volumes.UnpublishVolume(ctx, &api.UnpublishVolumeRequest{
			Id: &api.VolumeId{PodUid: r.pod.GetUid(), VolumeName: r.volume},
		})
		return err
	})
}

// retry makes a call again, until it succeeds or has an error that will not go by itself.
func retry(ctx context.Context, call func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := call(attempt)
		cancel()
		switch status.Code(err) {
		case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.DeadlineExceeded:
			log.Printf("trying again: %v", err)
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
