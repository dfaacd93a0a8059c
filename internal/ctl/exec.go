package ctl

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/internal/wrap"
	"github.com/token-projector/token-projector/tokenfile"
)

// programExit is the exit code of a program that was run. There is nothing to say
// about it: the program has.
type programExit int

func (e programExit) Error() string { return fmt.Sprintf("the program exited with %d", int(e)) }

type execFlags struct {
	token, onRotate string
	wait            bool
	timeout         time.Duration
}

func execCommand() *cobra.Command {
	f := execFlags{}
	cmd := &cobra.Command{
		Use:   "exec --on-rotate=signal:NAME|run:PROGRAM [--wait] -- PROGRAM [ARG...]",
		Short: "Run a program, and tell it when its token is replaced",
		Long: `Run a program that reads a token from a file, and each time that the token is replaced
send it a signal, or run another program, the hook. It needs no projectord: the file
may be the kubelet's. Signals are handed on to the program, and its exit code is the
exit code. As PID 1 of a container it also reaps what others leave behind.

A hook is run without a shell and without arguments, and finds the file's path in
TOKEN_PATH. What it prints goes to standard error. When it fails, or takes longer than
a minute and is killed, that is logged, and it is run again after a second, then two,
four, up to a minute, until it succeeds or there is another token. The first token is
no rotation: a program that can't do without has --wait.

Exit codes:
  N      the program's own
  128+N  signal N ended the program, or the wait for a token
  126    the program can't be run
  127    there is no such program
  2      called wrongly
  4      no token in time, with --wait: the program was not started`,
		Example: `  projectorctl exec --on-rotate=signal:HUP --wait -- nginx -g 'daemon off;'
  projectorctl exec --token=/var/run/secrets/vault/token --on-rotate=run:/usr/local/bin/reload -- app --port=8080`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("exec takes a program to run, after --")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.ErrOrStderr(), args) },
	}
	cmd.Flags().SetInterspersed(false) // what follows the program is the program's
	cmd.Flags().StringVar(&f.token, "token", tokenfile.InCluster, "the token's file")
	cmd.Flags().StringVar(&f.onRotate, "on-rotate", "", "what to do when the token is replaced: signal:NAME to the program, or run:PROGRAM")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "start the program when there is a token that has not expired")
	cmd.Flags().DurationVar(&f.timeout, "timeout", defaultTimeout, "how long to wait")
	return cmd
}

func (f *execFlags) run(stderr io.Writer, args []string) error {
	report := func(err error) {
		if err != nil {
			_, _ = fmt.Fprintf(stderr, "%s: %v\n", names.CLI, err)
		}
	}
	program, err := f.program(args)
	if err != nil {
		return usageError{err}
	}
	if program.Source, err = tokenfile.Open(f.token, tokenfile.WithReport(report)); err != nil {
		return usageError{err}
	}
	program.Report = report
	path, code, err := wrap.Find(args[0])
	if err != nil {
		return exitError{err, code}
	}
	program.Path = path
	code, err = program.Run()
	switch {
	case errors.Is(err, wrap.ErrNotInTime):
		return exitError{err, exitNotReady}
	case err != nil:
		return exitError{err, code}
	case code != exitOK:
		return programExit(code)
	}
	return nil
}

// program is what the flags say.
func (f *execFlags) program(args []string) (*wrap.Program, error) {
	p := &wrap.Program{Argv: args, TokenPath: f.token, Limits: wrap.Hooks}
	var err error
	if p.OnRotate, err = wrap.ParseOnRotate(f.onRotate); err != nil {
		return nil, fmt.Errorf("--on-rotate: %w", err)
	}
	// Now rather than at the first rotation, within the hour.
	if p.OnRotate.Hook != "" {
		if p.OnRotate.Hook, err = exec.LookPath(p.OnRotate.Hook); err != nil {
			return nil, fmt.Errorf("--on-rotate: %w", err)
		}
	}
	if f.wait {
		if f.timeout <= 0 {
			return nil, fmt.Errorf("--timeout=%s is no time to wait", f.timeout)
		}
		p.Wait = f.timeout
	}
	return p, nil
}
