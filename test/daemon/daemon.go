// Package daemon builds and runs projectord the way an operator does: as a
// program with flags, seen through its log, its HTTP server and its exit code.
package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/token-projector/token-projector/test/module"
	"github.com/token-projector/token-projector/test/proc"
)

// Build compiles projectord into dir and returns its path, with the race
// detector if race is set, which needs a C compiler.
func Build(ctx context.Context, dir string, race bool) (string, error) {
	return BuildCommand(ctx, dir, "projectord", race)
}

// BuildCommand compiles one of the commands below cmd, as Build does.
func BuildCommand(ctx context.Context, dir, name string, race bool) (string, error) {
	// With the module's own go.mod and go.sum, not those of the tests.
	root, err := module.Root(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := []string{"build", "-o", path}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, module.Path+"/cmd/"+name)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// Daemon is a running projectord. Make it with Start. Its methods may be called
// concurrently.
type Daemon struct {
	*proc.Process
	logPath string
}

// Start runs the program with these flags, JSON logs, a free port for HTTP and no socket.
// Its log is appended to logPath.
func Start(path, logPath string, flags ...string) (*Daemon, error) {
	flags = append([]string{"--log-format=json", "--http-address=127.0.0.1:0", "--socket="}, flags...)
	p, err := proc.Start("projectord", path, flags, logPath)
	if err != nil {
		return nil, err
	}
	return &Daemon{Process: p, logPath: logPath}, nil
}

// Line is one line of the log.
type Line map[string]any

// Text returns a field of the line as text.
func (l Line) Text(field string) string {
	text, _ := l[field].(string)
	return text
}

// Lines are the lines of the log so far.
func (d *Daemon) Lines() ([]Line, error) {
	content, err := os.ReadFile(d.logPath)
	if err != nil {
		return nil, err
	}
	var out []Line
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		line := Line{}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			line = Line{"msg": lines.Text()} // a panic, or a race that was found
		}
		out = append(out, line)
	}
	return out, nil
}

// Log is the whole log as text.
func (d *Daemon) Log() string {
	content, err := os.ReadFile(d.logPath)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// pollInterval is how often a wait looks again. What it waits for happens in
// another process, which sends no event.
const pollInterval = 20 * time.Millisecond

// WaitLine waits for a line of the log that matches.
func (d *Daemon) WaitLine(ctx context.Context, what string, match func(Line) bool) (Line, error) {
	for {
		lines, err := d.Lines()
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			if match(line) {
				return line, nil
			}
		}
		select {
		case <-d.Done():
			return nil, fmt.Errorf("waiting for projectord to log %s: %w", what, d.Ended())
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for projectord to log %s: %w\n%s", what, ctx.Err(), proc.Tail(d.logPath, 15))
		case <-time.After(pollInterval):
		}
	}
}

// URL is that of the program's HTTP server.
func (d *Daemon) URL(ctx context.Context) (string, error) {
	line, err := d.WaitLine(ctx, "its HTTP address", func(l Line) bool { return l.Text("msg") == "serving HTTP" })
	if err != nil {
		return "", err
	}
	return "http://" + line.Text("address"), nil
}

// Get asks the program's HTTP server.
func (d *Daemon) Get(ctx context.Context, path string) (status int, body string, err error) {
	url, err := d.URL(ctx)
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	b, err := io.ReadAll(response.Body)
	return response.StatusCode, string(b), err
}

// WaitReady waits until /readyz says 200.
func (d *Daemon) WaitReady(ctx context.Context) error {
	for {
		status, body, err := d.Get(ctx, "/readyz")
		if err == nil && status == http.StatusOK {
			return nil
		}
		if err == nil {
			err = errors.New(body)
		}
		select {
		case <-d.Done():
			return fmt.Errorf("waiting for projectord to be ready: %w", d.Ended())
		case <-ctx.Done():
			return fmt.Errorf("projectord is not ready: %w", err)
		case <-time.After(pollInterval):
		}
	}
}

// Term asks the program to end, as an operator does. It is an error if it does
// not end in time, or not with exit code 0.
func (d *Daemon) Term() error {
	d.Stop()
	return d.Exit()
}
