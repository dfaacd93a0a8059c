package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/inspect"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/rotation"
)

// errTokenArgument does not repeat what others may read on a terminal or in a
// log.
var errTokenArgument = usageError{errors.New("an argument is a token itself: others can see it in the list of processes; " +
	"give its file's name, or the token on standard input with '-'")}

type inspectFlags struct {
	output     string
	review     bool
	kubeconfig string
	jwks       string
}

// maxInput is more than any token; what is larger is none.
const maxInput = 1 << 20

func inspectCommand() *cobra.Command {
	f := inspectFlags{}
	cmd := &cobra.Command{
		Use:   "inspect FILE|DIRECTORY|-",
		Short: "Say what a token, or each token of a volume, is",
		Long: `Say what a service-account token is: its kind, whom it speaks for, what it is
bound to, for which audiences, its age, its deadline and the claim that says so,
and when projectord with its default flags rotates it, if it was asked for with the
audience and the lifetime that it has. For a directory in the kubelet's layout also
its generation, links, files and modes, and what is wrong with them. Never shows the
token or its signature.`,
		Example: `  projectorctl inspect /var/run/secrets/kubernetes.io/serviceaccount
  kubectl create token default | projectorctl inspect -
  projectorctl inspect --review --kubeconfig admin.conf -o json ./token
  kubectl get --raw /openid/v1/jwks > keys.json; projectorctl inspect --jwks keys.json ./token`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("inspect takes one FILE, DIRECTORY or -, not %d", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVar(&f.review, "review", false, "ask the API server's TokenReview too, for the token's own audiences")
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "whom to ask as, with --review (default: $KUBECONFIG)")
	cmd.Flags().StringVar(&f.jwks, "jwks", "", "file with the cluster's key set (/openid/v1/jwks); verify signatures with it, offline")
	return cmd
}

// result is one of a token and a volume.
type result interface {
	Print(w io.Writer, now time.Time) error
}

func (f *inspectFlags) run(cmd *cobra.Command, path string) error {
	if f.output != "text" && f.output != "json" {
		return usageError{fmt.Errorf("invalid --output %q: want text or json", f.output)}
	}
	if f.review && f.kubeconfig == "" {
		return usageError{errors.New("--review needs --kubeconfig: whom to ask as")}
	}
	now := time.Now()
	verdict, err := f.inspect(cmd, path, now)
	if err != nil {
		return err
	}
	if f.output == "text" {
		return verdict.Print(cmd.OutOrStdout(), now)
	}
	encoder := json.NewEncoder(cmd.OutOrStdout())
	encoder.SetIndent("", "  ")
	return encoder.Encode(verdict)
}

func (f *inspectFlags) inspect(cmd *cobra.Command, path string, now time.Time) (result, error) {
	if info, err := os.Stat(path); path != "-" && err == nil && info.IsDir() {
		v, err := inspect.ReadVolume(path, now)
		if err != nil {
			return nil, fmt.Errorf("reading volume: %w", err)
		}
		if v.Generation == "" {
			return nil, fmt.Errorf("%s: %s", path, strings.Join(v.Problems, "; "))
		}
		return v, v.EachToken(func(t *inspect.Token, text string) error { return f.verify(cmd, t, text) })
	}
	text, written, err := readToken(cmd.InOrStdin(), path)
	if err != nil {
		return nil, err
	}
	t, err := inspect.ParseToken(text, written, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, f.verify(cmd, t, text)
}

// readToken reads a file, and when it was written, or standard input; white
// space around is taken off.
func readToken(stdin io.Reader, path string) (text string, written time.Time, err error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", time.Time{}, fmt.Errorf("reading token: %w", err)
		}
		defer func() { _ = file.Close() }()
		info, err := file.Stat()
		if err != nil {
			return "", time.Time{}, fmt.Errorf("reading token: %w", err)
		}
		in, written = file, info.ModTime()
	}
	content, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("reading token: %w", err)
	}
	return strings.TrimSpace(string(content)), written, nil
}

// verify adds what was asked for beyond the token's own word.
func (f *inspectFlags) verify(cmd *cobra.Command, t *inspect.Token, text string) error {
	if f.jwks != "" {
		keys, err := os.ReadFile(f.jwks)
		if err != nil {
			return fmt.Errorf("reading key set: %w", err)
		}
		if t.Signature, err = inspect.VerifySignature(text, keys); err != nil {
			return fmt.Errorf("reading key set %s: %w", f.jwks, err)
		}
	}
	if !f.review {
		return nil
	}
	status, err := kube.ReviewToken(cmd.Context(), f.kubeconfig, rotation.NewToken(text), t.Audiences)
	if err != nil {
		return err
	}
	t.Review = &inspect.Review{
		Authenticated: status.Authenticated, User: status.User.Username, Groups: status.User.Groups,
		Audiences: status.Audiences, Error: status.Error, Extra: map[string][]string{},
	}
	for k, v := range status.User.Extra {
		t.Review.Extra[k] = v
	}
	return nil
}
