package ctl

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/inspect"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

func (a *app) getCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "get VOLUME",
		Short: "Describe one volume: where it lies, its files, its tokens and what is wrong",
		Long: `Describe one volume: its directory on the host, its files, and when each of its
tokens was issued, is replaced, and must have been replaced.
` + volumeForms + `

` + exitCodes,
		Example: `  projectorctl get default/web/vault-token
  projectorctl get 8da9ba01-f246-4480-92fc-c05dc80fb0c1/vault-token
  projectorctl get default/web/vault-token -o json | jq -r .volume.hostPath`,
		Args:              oneVolume,
		ValidArgsFunction: a.completeVolume,
	}
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait for the answer")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.call(cmd.Context(), timeout, func(ctx context.Context, c *client) error {
			id, err := resolve(ctx, c, args[0])
			if err != nil {
				return err
			}
			answer, err := c.GetVolume(ctx, &api.GetVolumeRequest{Id: id})
			if err != nil {
				return c.explain(err)
			}
			if *output == formatJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			return printVolume(cmd.OutOrStdout(), answer.GetVolume(), a.now())
		})
	}
	return cmd
}

// printVolume writes all that is known of v, one fact a line.
func printVolume(out io.Writer, v *api.Volume, now time.Time) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(tw, "%s:\t%s\n", name, inspect.Printable(fmt.Sprintf(format, args...)))
	}
	line("volume", "%s", argument(v))
	line("id", "%s", idText(v.GetId()))
	line("phase", "%s", phaseText(v))
	if v.GetLastError() != "" {
		line("error", "%s", v.GetLastError())
	}
	line("host path", "%s", orNone(v.GetHostPath()))
	line("generation", "%s", orNone(v.GetGeneration()))
	if v.GetPublished() {
		line("published", "yes, it stays until it is unpublished")
	} else {
		line("published", "no, not by a caller of projectord's API")
	}
	for _, f := range v.GetFiles() {
		line("file", "%s, mode %04o", f.GetPath(), f.GetMode())
	}
	for _, t := range v.GetTokens() {
		audience := "the API server"
		if t.GetAudience() != "" {
			audience = "audience " + t.GetAudience()
		}
		line("token", "%s, for %s", t.GetPath(), audience)
		for _, m := range []struct {
			name string
			at   time.Time
		}{{"  issued", t.GetIssuedAt().AsTime()}, {"  rotation", t.GetRotateAt().AsTime()}, {"  deadline", t.GetExpiresAt().AsTime()}} {
			line(m.name, "%s (%s)", m.at.Format(time.RFC3339), fromNow(m.at, now))
		}
	}
	return tw.Flush()
}

func orNone(text string) string {
	if text == "" {
		return "none yet"
	}
	return text
}
