package ctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

func (a *app) unpublishCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "unpublish VOLUME",
		Short: "Remove a volume and wipe what is in it",
		Long: `Remove a volume: its tokens are rotated no more, what it holds is wiped, and nothing
is mounted there. Stop what uses it first. It is no error if POD_UID/VOLUME is gone
already.
` + volumeForms + `

` + exitCodes,
		Example:           "  projectorctl unpublish 8da9ba01-f246-4480-92fc-c05dc80fb0c1/vault-token\n  projectorctl unpublish default/web/vault-token",
		Args:              oneVolume,
		ValidArgsFunction: a.completeVolume,
	}
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait until it is gone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.call(cmd.Context(), timeout, func(ctx context.Context, c *client) error {
			id, err := resolve(ctx, c, args[0])
			if err != nil {
				return err
			}
			if _, err := c.UnpublishVolume(ctx, &api.UnpublishVolumeRequest{Id: id}); err != nil {
				return c.explain(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "unpublished %s\n", args[0])
			return err
		})
	}
	return cmd
}

func (a *app) rotateCommand() *cobra.Command {
	var all bool
	var timeout, pace time.Duration
	cmd := &cobra.Command{
		Use:   "rotate VOLUME | --all",
		Short: "Replace tokens before they are due",
		Long: `Replace the tokens of a volume, or with --all of all volumes of this node, before they
are due. It returns when that has begun: 'projectorctl watch' shows it happen.
` + volumeForms + `

` + exitCodes,
		Example: "  projectorctl rotate default/web/vault-token\n  projectorctl rotate --all --pace=1s",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return errors.New("rotate takes a VOLUME or --all, not both")
			case all:
				return nil
			}
			return oneVolume(cmd, args)
		},
		ValidArgsFunction: a.completeVolume,
	}
	cmd.Flags().BoolVar(&all, "all", false, "all volumes of this node")
	cmd.Flags().DurationVar(&pace, "pace", 100*time.Millisecond, "time from one token to the next, from 1ms to 1m")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait until it has begun")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.call(cmd.Context(), timeout, func(ctx context.Context, c *client) error {
			request := &api.RotateVolumeRequest{Target: &api.RotateVolumeRequest_All{All: true}}
			if cmd.Flags().Changed("pace") {
				request.Pace = durationpb.New(pace)
			}
			if !all {
				id, err := resolve(ctx, c, args[0])
				if err != nil {
					return err
				}
				request.Target = &api.RotateVolumeRequest_Id{Id: id}
			}
			answer, err := c.RotateVolume(ctx, request)
			if err != nil {
				return c.explain(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "tokens being replaced: %d\n", answer.GetTokens())
			return err
		})
	}
	return cmd
}
