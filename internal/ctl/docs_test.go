package ctl

import (
	"bytes"
	"context"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

var update = flag.Bool("update", false, "write docs/projectorctl.md anew")

// TestDocumentedOutput runs each command of the document's console blocks.
func TestDocumentedOutput(t *testing.T) {
	const document = "../../docs/projectorctl.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	f := newFake()
	f.watches = [][]*api.WatchVolumesResponse{{
		event(added, f.volumes[0]), event(added, f.volumes[1]), event(added, f.volumes[2]), synced,
		event(modified, rotated(f.volumes[2])), event(deleted, f.volumes[0]),
	}}
	t.Setenv(socketEnv, f.serve(t))
	var got strings.Builder
	commands, inConsole := 0, false
	for line := range strings.Lines(string(text)) {
		command, isCommand := strings.CutPrefix(line, "$ projectorctl ")
		switch {
		case strings.HasPrefix(line, "```"):
			inConsole = line == "```console\n"
			got.WriteString(line)
		case !inConsole:
			got.WriteString(line)
		case isCommand:
			commands++
			got.WriteString(line + console(t, strings.Fields(command)))
		}
	}
	if commands < 9 {
		t.Errorf("%s has only %d commands; is this still the right pattern?", document, commands)
	}
	if *update {
		if err := os.WriteFile(document, []byte(got.String()), 0644); err != nil {
			t.Fatal(err)
		}
	} else if got.String() != string(text) {
		t.Errorf("%s is not what the commands print: run this test with -update.\n%s", document, got.String())
	}
}

// TestDocumentedExitCodes: the document has the codes that --help has.
func TestDocumentedExitCodes(t *testing.T) {
	text, err := os.ReadFile("../../docs/projectorctl.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(exitCodes) {
		code, meaning, isCode := strings.Cut(strings.TrimSpace(line), "  ")
		if want := "| " + code + " | " + meaning; isCode && !strings.Contains(string(text), want) {
			t.Errorf("lacks %q", want)
		}
	}
}

// console runs a command with a clock that goes on, until it ends or the last event
// is shown.
func console(t *testing.T, args []string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs bytes.Buffer
	out := until{text: "deleted ", done: cancel}
	now := noon.Add(-time.Second)
	(&app{now: func() time.Time { now = now.Add(time.Second); return now }}).run(ctx, args, nil, &out, &errs)
	return out.String() + errs.String()
}
