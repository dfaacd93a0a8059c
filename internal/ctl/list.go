package ctl

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/inspect"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

func (a *app) listCommand() *cobra.Command {
	var podUID string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the volumes of this node, and when their tokens are rotated next",
		Long: `List the volumes that projectord serves on this node, whoever asked for them. NEXT
ROTATION is that of the token of the volume that is due first. On a terminal names
are shortened to its width.

` + exitCodes,
		Example: `  projectorctl list
  projectorctl list --pod-uid 8da9ba01-f246-4480-92fc-c05dc80fb0c1
  projectorctl list -o json | jq -r '.volumes[] | select(.phase != "PHASE_READY") | .lastError'`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&podUID, "pod-uid", "", "only the volumes of the Pod with this UID")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait for the answer")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.call(cmd.Context(), timeout, func(ctx context.Context, c *client) error {
			all, err := listVolumes(ctx, c, podUID)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if *output == formatJSON {
				return printJSON(out, all)
			}
			return printVolumes(out, all.GetVolumes(), a.now())
		})
	}
	return cmd
}

// printVolumes writes a table. There is a column for errors if there is one.
func printVolumes(out io.Writer, volumes []*api.Volume, now time.Time) error {
	if len(volumes) == 0 {
		_, err := fmt.Fprintln(out, "no volumes")
		return err
	}
	rows := [][]string{{"POD", "VOLUME", "PHASE", "TOKENS", "NEXT ROTATION"}}
	failing := false
	for _, v := range volumes {
		rows = append(rows, []string{podText(v), v.GetId().GetVolumeName(), phaseText(v), strconv.Itoa(len(v.GetTokens())), nextText(v, now)})
		failing = failing || v.GetLastError() != ""
	}
	if failing {
		rows[0] = append(rows[0], "ERROR")
		for i, v := range volumes {
			rows[i+1] = append(rows[i+1], inspect.Printable(v.GetLastError()))
		}
	}
	_, err := fmt.Fprintln(out, strings.Join(layOut(rows, width(out)), "\n"))
	return err
}

func phaseText(v *api.Volume) string {
	return strings.ToLower(strings.TrimPrefix(v.GetPhase().String(), "PHASE_"))
}

// nextToken is the token that is due first; nil without any.
func nextToken(v *api.Volume) *api.Token {
	var next *api.Token
	for _, t := range v.GetTokens() {
		if next == nil || t.GetRotateAt().AsTime().Before(next.GetRotateAt().AsTime()) {
			next = t
		}
	}
	return next
}

func nextText(v *api.Volume, now time.Time) string {
	next := nextToken(v)
	if next == nil {
		return "-"
	}
	at := next.GetRotateAt().AsTime()
	if late := now.Sub(at).Round(time.Second); late > 0 {
		return fmt.Sprintf("overdue %s", late)
	}
	return fromNow(at, now)
}

// fromNow says how far a moment is.
func fromNow(t, now time.Time) string {
	d := t.Sub(now).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("%s ago", -d)
	}
	return fmt.Sprintf("in %s", d)
}
