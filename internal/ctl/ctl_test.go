package ctl

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/token-projector/token-projector/rotation/rotationtest"
)

func TestInspect(t *testing.T) {
	token := rotationtest.JWT(`{"sub": "system:serviceaccount:ns:sa", "iat": 1800000000, "exp": 1800003600,
		"kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "sa"}, "pod": {"name": "p", "uid": "pu"}}}`)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		args  []string
		stdin string
		code  int
		out   string // part of standard output
		says  string // part of standard error
	}{
		{"a file", []string{"inspect", file}, "", 0, "pod:              p (UID pu)", ""},
		{"standard input", []string{"inspect", "-"}, token, 0, "bound: ends with", ""},
		{"json", []string{"inspect", "-o", "json", file}, "", 0, `"kind": "bound"`, ""},
		{"garbage", []string{"inspect", "-"}, "garbage", 1, "", "not a JSON web token"},
		{"nothing", []string{"inspect", "-"}, "", 1, "", "not a JSON web token"},
		{"no such file", []string{"inspect", file + "x"}, "", 1, "", "no such file"},
		{"no such key set", []string{"inspect", "--jwks", file + "x", file}, "", 1, "", "reading key set"},
		{"no key set", []string{"inspect", "--jwks", file, file}, "", 1, "", "not a JSON web key set"},
		{"the token itself", []string{"inspect", token}, "", 2, "", "is a token itself"},
		{"the token as a command", []string{token}, "", 2, "", "is a token itself"},
		{"the token as a flag's value", []string{"inspect", "--jwks", token, file}, "", 2, "", "is a token itself"},
		{"the token as the output", []string{"inspect", "-o", token, file}, "", 2, "", "is a token itself"},
		{"a directory that is no volume", []string{"inspect", filepath.Dir(file)}, "", 1, "", "not a projected volume"},
		{"no argument", []string{"inspect"}, "", 2, "", "takes one FILE"},
		{"unknown flag", []string{"inspect", "--nope", file}, "", 2, "", "unknown flag"},
		{"unknown output", []string{"inspect", "-o", "yaml", file}, "", 2, "", `--output "yaml"`},
		{"review without a kubeconfig", []string{"inspect", "--review", "--kubeconfig=", file}, "", 2, "", "needs --kubeconfig"},
		{"unknown command", []string{"inspekt"}, "", 2, "", `unknown command "inspekt"`},
		{"no command", nil, "", 2, "inspect", "a command is missing"},
		{"help", []string{"inspect", "--help"}, "", 0, "kubectl create token", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), tt.args, strings.NewReader(tt.stdin), &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.out) || !strings.Contains(stderr.String(), tt.says) {
				t.Errorf("exit %d, want %d; stdout %q, want %q in it; stderr %q, want %q in it",
					code, tt.code, &stdout, tt.out, &stderr, tt.says)
			}
			for part := range strings.SplitSeq(token, ".") {
				if strings.Contains(stdout.String()+stderr.String(), part) {
					t.Errorf("a part of the token is shown")
				}
			}
		})
	}
}
