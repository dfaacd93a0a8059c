package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/kubelet"
	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/internal/socket"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/rootlock"
)

type wipeFlags struct {
	root, kubeletDir string
	stay             bool
}

func wipeCommand() *cobra.Command {
	f := wipeFlags{}
	cmd := &cobra.Command{
		Use:   "wipe",
		Short: "Remove everything that projectord has left on this node",
		Long: `Remove all volumes below a root directory, their mounts, and the directory itself.
The sockets that it had go too. It refuses a directory that a projectord serves, one that none has ever served, and
one that belongs to a live kubelet. Workloads that still use a volume lose it.`,
		Example: "  projectorctl wipe --root-dir " + names.DefaultRoot,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{errors.New("wipe takes no arguments; name the directory with --root-dir")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.wipe(cmd.Context(), cmd.OutOrStdout()); err != nil {
				return err
			}
			if f.stay {
				<-cmd.Context().Done()
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&f.root, "root-dir", names.DefaultRoot, "the --root-dir of projectord")
	cmd.Flags().StringVar(&f.kubeletDir, "kubelet-dir", kubelet.DefaultDir, "the --root-dir of the kubelet, if this node has one")
	cmd.Flags().BoolVar(&f.stay, "stay", false, "when it is done, wait to be ended: for a DaemonSet")
	return cmd
}

func (f *wipeFlags) wipe(ctx context.Context, out io.Writer) error {
	root, err := filepath.EvalSymlinks(f.root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		root = f.root
	case err != nil:
		return fmt.Errorf("looking for what projectord has left: %w", err)
	}
	switch exists, err := rootlock.Exists(root); {
	case err != nil:
		return fmt.Errorf("looking for what projectord has left: %w", err)
	case !exists:
		_, err := fmt.Fprintf(out, "nothing to remove: no projectord has served %s\n", root)
		return err
	}
	if evidence := kubelet.Evidence(ctx, f.kubeletDir); evidence != "" && kubelet.Owns(f.kubeletDir, root) {
		return fmt.Errorf("%s belongs to the kubelet that serves this node (%s)", root, evidence)
	}
	locking, cancel := context.WithTimeout(ctx, rootlock.Timeout)
	defer cancel()
	lock, err := rootlock.Acquire(locking, root, func(err error) { _, _ = fmt.Fprintf(out, "waiting: %v\n", err) })
	if err != nil {
		return err
	}
	removed, err := projector.Wipe(root)
	if err == nil {
		err = removeSockets(root, f.kubeletDir)
	}
	if err != nil {
		return errors.Join(err, lock.Release())
	}
	if err := lock.Remove(); err != nil {
		return fmt.Errorf("removing the root directory: %w", err)
	}
	_, err = fmt.Fprintf(out, "removed %d volumes and %s\n", removed, root)
	return err
}

// removeSockets removes those that projectord serves where the DaemonSet runs it: of
// runtimes below the root directory, elsewhere it removes that itself, and of the CSI
// driver, which a kubelet would go on calling.
func removeSockets(root, kubeletDir string) error {
	return errors.Join(
		socket.Remove(filepath.Join(root, "admin", filepath.Base(names.DefaultSocket))),
		socket.RemoveStale(filepath.Join(kubeletDir, "plugins_registry", names.CSIDriver+"-reg.sock")),
		socket.Remove(filepath.Join(kubeletDir, "plugins", names.CSIDriver, "csi.sock")),
	)
}
