package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

const volumeForms = `VOLUME is NAMESPACE/POD/VOLUME, or POD_UID/VOLUME if the Pod's name means more than
one Pod.`

// noArgs and oneVolume check what comes after a command.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, not %q", cmd.Name(), args[0])
	}
	return nil
}

func oneVolume(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes one VOLUME, not %d", cmd.Name(), len(args))
	}
	return checkVolume(args[0])
}

func checkVolume(arg string) error {
	parts := strings.Split(arg, "/")
	for _, part := range parts {
		if part == "" || len(parts) < 2 || len(parts) > 3 {
			return fmt.Errorf("invalid volume %q: want NAMESPACE/POD/VOLUME or POD_UID/VOLUME", arg)
		}
	}
	return nil
}

// listVolumes reads all pages; podUID may be empty.
func listVolumes(ctx context.Context, c *client, podUID string) (*api.ListVolumesResponse, error) {
	all := &api.ListVolumesResponse{}
	for page := ""; ; {
		answer, err := c.ListVolumes(ctx, &api.ListVolumesRequest{PodUid: podUID, PageToken: page})
		if err != nil {
			return nil, c.explain(err)
		}
		all.Volumes = append(all.Volumes, answer.GetVolumes()...)
		if page = answer.GetNextPageToken(); page == "" {
			return all, nil
		}
	}
}

// resolve finds the volume that an argument names, which checkVolume has let pass.
func resolve(ctx context.Context, c *client, arg string) (*api.VolumeId, error) {
	if parts := strings.Split(arg, "/"); len(parts) == 2 {
		return &api.VolumeId{PodUid: parts[0], VolumeName: parts[1]}, nil
	}
	all, err := listVolumes(ctx, c, "")
	if err != nil {
		return nil, err
	}
	var found *api.VolumeId
	for _, v := range all.GetVolumes() {
		switch {
		case argument(v) != arg:
		case found != nil:
			return nil, fmt.Errorf("%s is a volume of two Pods: name the one you mean, as %s or %s", arg, idText(found), idText(v.GetId()))
		default:
			found = v.GetId()
		}
	}
	if found == nil {
		return nil, exitError{fmt.Errorf("there is no volume %s: 'projectorctl list' shows those that there are", arg), exitNotFound}
	}
	return found, nil
}

func idText(id *api.VolumeId) string { return id.GetPodUid() + "/" + id.GetVolumeName() }

// podText is NAMESPACE/POD, or the UID of a Pod that is not known.
func podText(v *api.Volume) string {
	if v.GetPod().GetName() == "" {
		return v.GetId().GetPodUid()
	}
	return v.GetPod().GetNamespace() + "/" + v.GetPod().GetName()
}

// argument is how a volume is named to a command.
func argument(v *api.Volume) string { return podText(v) + "/" + v.GetId().GetVolumeName() }

// completionTimeout is how long a shell may hang at the tab key.
const completionTimeout = 2 * time.Second

// completeVolume offers the names of volumes to a shell. Without a projectord it has
// none to offer.
func (a *app) completeVolume(cmd *cobra.Command, args []string, _ string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_ = a.call(cmd.Context(), completionTimeout, func(ctx context.Context, c *client) error {
		all, err := listVolumes(ctx, c, "")
		for _, v := range all.GetVolumes() {
			found = append(found, argument(v))
		}
		return err
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}
