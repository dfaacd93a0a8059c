package ctl

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// view shows what a watch brings.
type view interface {
	event(*api.WatchVolumesResponse) error
	// lost says that events are missing, and why, until the next
	// INITIAL_SYNC_COMPLETE.
	lost(why error) error
}

func (a *app) watchCommand() *cobra.Command {
	var podUID string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show volumes as they change, with the time to each one's next rotation",
		Long: `Show the volumes of this node as they change, until it is interrupted: on a terminal
a table with a bar for each that runs to its next rotation, elsewhere a line for each
change. NO_COLOR=1 has the table without colours, TERM=dumb lines on a terminal too.

When projectord goes away it waits until it is back. With -o json each event is an
object on a line; after such a gap each volume is ADDED again, followed by another
INITIAL_SYNC_COMPLETE: what is not among them is gone.

` + exitCodes,
		Example: `  projectorctl watch
  projectorctl watch --pod-uid 8da9ba01-f246-4480-92fc-c05dc80fb0c1
  projectorctl watch -o json | jq -c 'select(.type == "EVENT_TYPE_DELETED") | .volume.id'`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&podUID, "pod-uid", "", "only the volumes of the Pod with this UID")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		defer c.close()
		out, request := cmd.OutOrStdout(), &api.WatchVolumesRequest{PodUid: podUID}
		_, onTerminal := terminal(out)
		switch {
		case *output == formatJSON:
			return c.follow(cmd.Context(), request, jsonLines{out, cmd.ErrOrStderr()}, rewatchPause)
		case !onTerminal || os.Getenv("TERM") == "dumb":
			return c.follow(cmd.Context(), request, &textLines{out: out, now: a.now, known: newTracker()}, rewatchPause)
		}
		return a.live(cmd.Context(), out, c, request)
	}
	return cmd
}

// live lets the table run for as long as there is something to follow.
func (a *app) live(ctx context.Context, out io.Writer, c *client, request *api.WatchVolumesRequest) error {
	table := &liveTable{now: a.now, colour: os.Getenv("NO_COLOR") == "", known: newTracker()}
	drawing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { table.run(drawing, out) })
	err := c.follow(ctx, request, table, rewatchPause)
	stop()
	wg.Wait()
	return err
}

// rewatchPause is for a projectord that answers and can't be watched yet.
const rewatchPause = time.Second

// follow hands all events to v until ctx ends, which is no error. A watch that once
// worked is begun anew when it breaks.
func (c *client) follow(ctx context.Context, request *api.WatchVolumesRequest, v view, pause time.Duration) error {
	for worked := false; ; {
		stream, err := c.WatchVolumes(ctx, request, grpc.WaitForReady(worked))
		synced := false
		if err == nil {
			synced, err = receive(stream, v)
		}
		worked = worked || synced
		var shown viewError
		switch code := status.Code(err); {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &shown):
			return shown.error
		case !worked, code != codes.Unavailable && code != codes.ResourceExhausted:
			return c.explain(err)
		}
		why := c.explain(err)
		if synced && status.Code(err) == codes.Unavailable {
			why = errors.New("projectord has ended, or restarts") // gRPC would say: EOF
		}
		if err := v.lost(why); err != nil {
			return err
		}
		if !synced {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// viewError tells an output that fails from a watch that does.
type viewError struct{ error }

// receive reads events until the stream ends. synced says that it had all volumes.
func receive(stream grpc.ServerStreamingClient[api.WatchVolumesResponse], v view) (synced bool, err error) {
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = status.Error(codes.Unavailable, "the watch has ended")
		}
		if err != nil {
			return synced, err
		}
		synced = synced || event.GetType() == api.EventType_EVENT_TYPE_INITIAL_SYNC_COMPLETE
		if err := v.event(event); err != nil {
			return synced, viewError{err}
		}
	}
}
