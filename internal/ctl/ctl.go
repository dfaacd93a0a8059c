// Package ctl is the program projectorctl. It is no main package, because the image
// has projectorctl and projectord in one file.
package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/inspect"
	"github.com/token-projector/token-projector/internal/names"
)

// Exit codes, as exitCodes documents them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitNotReady    = 4
	exitUnreachable = 5
)

const exitCodes = `Exit codes:
  0  done
  1  failed
  2  called wrongly
  3  there is no such volume, or no such Pod
  4  not ready, or not in time: what was begun goes on, try again
  5  projectord can't be reached on its socket`

// Main is the program: it ends the process.
func Main() {
	ends := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) { // as in the background of a shell: a program of exec has it ignored too
		ends = append(ends, os.Interrupt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// usageError is a mistake in how the program was called.
type usageError struct{ error }

// exitError is an error that has an exit code of its own.
type exitError struct {
	error
	code int
}

// app is what the commands share.
type app struct {
	now    func() time.Time
	socket string // of projectord
}

// run is Main without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return (&app{now: time.Now}).run(ctx, args, stdin, stdout, stderr)
}

func (a *app) run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	addCompletion(root)
	called := false // as it should be: cobra has read the flags and arguments
	root.PersistentPreRun = func(*cobra.Command, []string) { called = true }
	err := error(errTokenArgument)
	if !slices.ContainsFunc(args, holdsToken) {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitOK
	}
	if ended := programExit(0); errors.As(err, &ended) {
		return int(ended)
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", names.CLI, err)
	if usage := (usageError{}); !called || errors.As(err, &usage) {
		_, _ = fmt.Fprintf(stderr, "Run '%s --help' for its commands.\n", names.CLI)
		return exitUsage
	}
	if with := (exitError{}); errors.As(err, &with) {
		return with.code
	}
	return exitFailure
}

// holdsToken finds a token in the place of an argument or a flag's value, before any
// message repeats it.
func holdsToken(arg string) bool {
	_, value, _ := strings.Cut(arg, "=")
	return inspect.IsTokenItself(arg) || inspect.IsTokenItself(value) || inspect.IsTokenItself(strings.TrimLeft(arg, "-"))
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   names.CLI,
		Short: "Publish, watch and look at projected service-account tokens, and clean up",
		Long: `Talk to the projectord of this node: have volumes of Pods published, see how their
tokens are doing, rotate them. Or, without it, say what a token or a volume is, and
remove what a projectord has left. No command shows a token.

` + exitCodes,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), usageError{errors.New("a command is missing")})
		},
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", defaultSocket(), "projectord's socket; $"+socketEnv+" is its default")
	root.AddCommand(a.listCommand(), a.getCommand(), a.watchCommand(), a.publishCommand(), a.unpublishCommand(), a.rotateCommand())
	root.AddCommand(inspectCommand(), execCommand(), a.doctorCommand(), wipeCommand(), a.versionCommand())
	return root
}

// addCompletion adds cobra's command, which needs root's output by now, and has it
// fail without a shell and with one that it does not know.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(cmd *cobra.Command, _ []string) error {
				return errors.Join(cmd.Help(), usageError{errors.New("completion takes a shell: bash, zsh, fish or powershell")})
			}
		}
	}
}
