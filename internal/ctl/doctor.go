package ctl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/doctor"
	"github.com/token-projector/token-projector/internal/kubelet"
	"github.com/token-projector/token-projector/internal/names"
)

type doctorFlags struct {
	app                                               *app
	output, root, kubeletDir, kubeconfig, httpAddress string
	pid                                               int
}

func (a *app) doctorCommand() *cobra.Command {
	f := doctorFlags{app: a}
	cmd := &cobra.Command{
		Use:   "doctor [POD_UID|VOLUME_DIRECTORY]",
		Short: "Say why a Pod has a bad token",
		Long: `Look at a Pod's volumes, or at one, or without an argument only at the node: at what
lies on the node, what the containers see, what the API server and projectord say,
the clocks, and the limits. Works for the kubelet's own volumes too. Each line is

  OK    nothing to do
  WARN  it works, and may not for long
  FAIL  a cause of bad tokens: the exit code is 1
  SKIP  it could not be looked at, and how it could

and says what to do. It changes nothing and never shows a token. For what the
containers see it needs root in the host's PID namespace.`,
		Example: `  projectorctl doctor $(kubectl get pod web -o jsonpath={.metadata.uid})
  projectorctl doctor --kubeconfig admin.conf /var/lib/projectord/pods/UID/volumes/kubernetes.io~projected/tokens
  projectorctl doctor -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("doctor takes one POD_UID or VOLUME_DIRECTORY at most, not %d", len(args))}
			}
			return nil
		},
		RunE: f.run,
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&f.root, "root-dir", names.DefaultRoot, "the --root-dir of projectord")
	cmd.Flags().StringVar(&f.kubeletDir, "kubelet-dir", kubelet.DefaultDir, "the --root-dir of the kubelet, if this node has one")
	cmd.Flags().StringVar(&f.httpAddress, "http-address", names.DefaultHTTPAddress, "the --http-address of projectord")
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"),
		"where the API server is, and as whom to ask for TokenReviews (default: $KUBECONFIG; else as a Pod, without reviews)")
	cmd.Flags().IntVar(&f.pid, "pid", 0, "look only at this process of a container (default: all that have the volume mounted)")
	return cmd
}

func (f *doctorFlags) run(cmd *cobra.Command, args []string) error {
	if f.output != "text" && f.output != "json" {
		return usageError{fmt.Errorf("invalid --output %q: want text or json", f.output)}
	}
	if f.pid < 0 || f.pid > 0 && len(args) == 0 {
		return usageError{errors.New("--pid needs a process that there is, and a POD_UID or VOLUME_DIRECTORY")}
	}
	results, err := f.examine(cmd.Context(), args)
	if err != nil {
		return err
	}
	if f.output == "text" {
		err = doctor.Print(cmd.OutOrStdout(), results)
	} else {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		err = encoder.Encode(results)
	}
	failed := 0
	for _, r := range results {
		if r.Status == doctor.Fail {
			failed++
		}
	}
	if failed > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d checks failed", failed, len(results)))
	}
	return err
}

func (f *doctorFlags) examine(ctx context.Context, args []string) ([]doctor.Result, error) {
	daemon, err := f.app.connect()
	if err != nil {
		return nil, err
	}
	defer daemon.close()
	host, err := os.Hostname()
	if err != nil {
		host = "NODE" // it is only for an advice
	}
	d := doctor.Doctor{
		RootDir: f.root, KubeletDir: f.kubeletDir, Kubeconfig: f.kubeconfig, HTTPAddress: f.httpAddress, PID: f.pid,
		Socket: f.app.socket, Daemon: daemon,
		Node: cmp.Or(os.Getenv("NODE_NAME"), host), Proc: "/proc", UID: os.Geteuid(), Now: time.Now(),
	}
	if len(args) == 1 {
		d.Target = args[0]
	}
	return d.Run(ctx), nil
}
