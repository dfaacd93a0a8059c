package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// format is how a command prints what it got.
type format string

const (
	formatText format = "text"
	formatJSON format = "json"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "text|json" }

func (f *format) Set(value string) error {
	if value != string(formatText) && value != string(formatJSON) {
		return fmt.Errorf("want text or json")
	}
	*f = format(value)
	return nil
}

// outputFlag adds -o to a command.
func outputFlag(cmd *cobra.Command) *format {
	f := formatText
	cmd.Flags().VarP(&f, "output", "o", "how to print it")
	complete := cobra.FixedCompletions([]cobra.Completion{string(formatText), string(formatJSON)}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("output", complete) // fails without the flag above
	return &f
}

// toJSON is a message on one line. Fields that are zero are there too, so that a script
// need not ask whether they are.
func toJSON(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing JSON: %w", err)
	}
	var line bytes.Buffer // protojson's own spaces are random
	if err := json.Compact(&line, text); err != nil {
		return nil, fmt.Errorf("writing JSON: %w", err)
	}
	line.WriteByte('\n')
	return line.Bytes(), nil
}

// printJSON writes a message as a document.
func printJSON(w io.Writer, m proto.Message) error {
	line, err := toJSON(m)
	if err != nil {
		return err
	}
	var document bytes.Buffer
	if err := json.Indent(&document, line, "", "  "); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	_, err = w.Write(document.Bytes())
	return err
}
