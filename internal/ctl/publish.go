package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/token-projector/token-projector/internal/inspect"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

type publishFlags struct {
	wait    bool
	timeout time.Duration
	output  *format
}

func (a *app) publishCommand() *cobra.Command {
	f := publishFlags{}
	cmd := &cobra.Command{
		Use:   "publish NAMESPACE/NAME UID [VOLUME]",
		Short: "Have the volumes of a Pod written, and kept current from then on",
		Long: `Have a volume of a Pod on this node written, or all of its projected volumes that
have a token among their sources, and kept current until they are unpublished. UID is
the Pod's metadata.uid: another Pod of the same name is another. It may be called
again, and has the same result.

Without --wait it returns at once, and volumes may be pending. With it, when all are
written; when that takes longer than --timeout, it says how far they are and exits
with 4, and the work goes on.

` + exitCodes,
		Example: `  projectorctl publish default/web 8da9ba01-f246-4480-92fc-c05dc80fb0c1 --wait
  projectorctl publish default/web "$(kubectl get pod web -o jsonpath={.metadata.uid})" vault-token
  projectorctl publish default/web $uid vault-token --wait -o json | jq -r '.volumes[].hostPath'`,
		Args:              checkPublish,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&f.wait, "wait", false, "return when the volumes are written")
	cmd.Flags().DurationVar(&f.timeout, "timeout", defaultTimeout, "how long to wait")
	f.output = outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.publish(cmd, f, args) }
	return cmd
}

func checkPublish(_ *cobra.Command, args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return fmt.Errorf("publish takes NAMESPACE/NAME, the Pod's UID and perhaps a VOLUME, not %d arguments", len(args))
	}
	namespace, name, _ := strings.Cut(args[0], "/")
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("invalid Pod %q: want NAMESPACE/NAME", args[0])
	}
	if args[1] == "" || strings.Contains(args[1], "/") {
		return fmt.Errorf("invalid UID %q: want the Pod's metadata.uid", args[1])
	}
	return nil
}

func (a *app) publish(cmd *cobra.Command, f publishFlags, args []string) error {
	namespace, name, _ := strings.Cut(args[0], "/")
	request := &api.PublishVolumeRequest{Pod: &api.PodRef{Namespace: namespace, Name: name, Uid: args[1]}, WaitReady: f.wait}
	if len(args) == 3 {
		request.VolumeName = args[2]
	}
	var answer *api.PublishVolumeResponse
	err := a.call(cmd.Context(), f.timeout, func(ctx context.Context, c *client) error {
		var err error
		answer, err = c.PublishVolume(ctx, request)
		if code := status.Code(err); f.wait && (code == codes.DeadlineExceeded || code == codes.FailedPrecondition || code == codes.PermissionDenied) {
			return errors.Join(c.explain(err), a.report(cmd, request)) // projectord may go on
		}
		return c.explain(err)
	})
	if err != nil {
		return err
	}
	if *f.output == formatJSON {
		err = printJSON(cmd.OutOrStdout(), answer)
	} else {
		err = printPublished(cmd.OutOrStdout(), answer.GetVolumes())
	}
	return err
}

// report says how far the volumes are that were waited for in vain.
func (a *app) report(cmd *cobra.Command, request *api.PublishVolumeRequest) error {
	return a.call(cmd.Context(), defaultTimeout, func(ctx context.Context, c *client) error {
		there, err := listVolumes(ctx, c, request.GetPod().GetUid())
		if err != nil {
			return err
		}
		return unwritten(slices.DeleteFunc(there.GetVolumes(), func(v *api.Volume) bool {
			return request.GetVolumeName() != "" && request.GetVolumeName() != v.GetId().GetVolumeName()
		}))
	})
}

// unwritten names volumes that are not published.
func unwritten(volumes []*api.Volume) error {
	var errs []error
	for _, v := range volumes {
		if v.GetPhase() != api.Phase_PHASE_PENDING {
			continue
		}
		why := "is not written yet"
		if v.GetLastError() != "" {
			why += ": " + inspect.Printable(v.GetLastError())
		}
		errs = append(errs, exitError{fmt.Errorf("%s %s", argument(v), why), exitNotReady})
	}
	return errors.Join(errs...)
}

// printPublished says what to mount. Paths are for copying: they are not shortened.
func printPublished(out io.Writer, volumes []*api.Volume) error {
	rows := [][]string{{"VOLUME", "PHASE", "HOST PATH"}}
	for _, v := range volumes {
		rows = append(rows, []string{v.GetId().GetVolumeName(), phaseText(v), orNone(v.GetHostPath())})
	}
	_, err := fmt.Fprintln(out, strings.Join(layOut(rows, 0), "\n"))
	return err
}
