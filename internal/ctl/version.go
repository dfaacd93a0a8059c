package ctl

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/names"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

func (a *app) versionCommand() *cobra.Command {
	var server bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is, and with --server which projectord it reaches",
		Long: `Say which version, commit and Go this program is made of. With --server also who
answers on projectord's socket, or a line with SKIP and the reason if nobody does.`,
		Example:           "  projectorctl version\n  projectorctl version --server",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&server, "server", false, "ask projectord too")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait for its answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		info, _ := debug.ReadBuildInfo()
		printBuild(tw, info)
		if server {
			err := a.call(cmd.Context(), timeout, func(ctx context.Context, c *client) error {
				answer, err := c.GetInfo(ctx, &api.GetInfoRequest{})
				if err != nil {
					return c.explain(err)
				}
				printInfo(tw, answer)
				return nil
			})
			if err != nil {
				_, _ = fmt.Fprintf(tw, "%s:\tSKIP: %v\n", names.Daemon, err)
			}
		}
		return tw.Flush()
	}
	return cmd
}

// printBuild writes what the Go command recorded; info may be nil.
func printBuild(tw io.Writer, info *debug.BuildInfo) {
	version, commit := "(devel)", "not recorded: built outside of a git clone"
	if info != nil && info.Main.Version != "" {
		version = info.Main.Version
	}
	if info != nil {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				commit += ", with changes"
			}
		}
	}
	_, _ = fmt.Fprintf(tw, "%s:\t%s\n", names.CLI, version)
	_, _ = fmt.Fprintf(tw, "  commit:\t%s\n", commit)
	_, _ = fmt.Fprintf(tw, "  go:\t%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func printInfo(tw io.Writer, info *api.GetInfoResponse) {
	identity := "not known until it reaches the API server"
	if info.GetIdentity() != "" {
		identity = fmt.Sprintf("%s, as %s", info.GetIdentity(), info.GetUser())
	}
	features := strings.Join(info.GetFeatures(), ", ")
	if features == "" {
		features = "none"
	}
	_, _ = fmt.Fprintf(tw, "%s:\t%s\n", names.Daemon, info.GetVersion())
	for _, fact := range [][2]string{
		{"node", info.GetNode()}, {"identity", identity}, {"features", features}, {"root directory", info.GetRootDir()},
		{"removal", fmt.Sprintf("%s after a Pod is gone", time.Duration(info.GetRemovalGraceSeconds())*time.Second)},
	} {
		_, _ = fmt.Fprintf(tw, "  %s:\t%s\n", fact[0], fact[1])
	}
}
