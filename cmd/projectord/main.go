// Command projectord keeps the projected service-account token volumes of one
// node's Pods: it requests the tokens, writes the volumes, rotates each token
// before it lapses and removes what is no longer wanted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"github.com/token-projector/token-projector/internal/ctl"
	"github.com/token-projector/token-projector/internal/names"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	// The image has one file under both names, for half the size.
	if filepath.Base(os.Args[0]) == names.CLI {
		ctl.Main()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args []string, env func(string) (string, bool), stdout, stderr io.Writer) int {
	o, err := parse(args, env)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		_, _ = fmt.Fprint(stdout, usage())
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "%s: %v\nRun '%s --help' for its flags.\n", names.Daemon, err, names.Daemon)
		return exitUsage
	case o.version:
		_, _ = fmt.Fprintln(stdout, names.Daemon, version())
		return exitOK
	}
	logger := newLogger(stderr, o)
	// What client-go logs goes the same way, and never with bodies: those
	// begin at a verbosity that is not set here.
	klog.SetSlogLogger(logger.With("component", "client-go"))
	if err := serve(ctx, o, logger); err != nil {
		logger.Error("stopped", "error", err)
		return exitFailure
	}
	logger.Info("stopped; volumes stay for the next start")
	return exitOK
}

func newLogger(w io.Writer, o *options) *slog.Logger {
	level := slog.LevelInfo
	if o.verbosity > 0 {
		level = slog.LevelDebug
	}
	handler := slog.HandlerOptions{Level: level}
	if o.logFormat == logJSON {
		return slog.New(slog.NewJSONHandler(w, &handler))
	}
	return slog.New(slog.NewTextHandler(w, &handler))
}

// version is the module's version as the Go command recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
