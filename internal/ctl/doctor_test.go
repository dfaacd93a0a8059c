package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/token-projector/token-projector/rotation/rotationtest"
)

func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	node := []string{"doctor", "--root-dir=" + dir, "--kubelet-dir=" + dir, "--socket=" + filepath.Join(dir, "s"), "--http-address=127.0.0.1:1"}
	token := rotationtest.JWT(`{"sub": "system:serviceaccount:ns:sa"}`)
	broken := filepath.Join(dir, "volume")
	if err := os.Mkdir(broken, 0755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		code int
		out  string // part of standard output
		says string // part of standard error
	}{
		{"the node", node, 0, "OK    kubelet      none serves this node", ""},
		{"nobody at the socket", node, 0, "SKIP  daemon       projectord does not answer at " + dir + "/s: no such file or directory", ""},
		{"a broken volume", append(node, broken), 1, "FAIL  volume       ..data is not a link", "1 of 7 checks failed"},
		{"a Pod without volumes", append(node, "uid"), 1, "FAIL  volume       there is no volume with tokens of Pod uid", "1 of 7 checks failed"},
		{"a Pod whose UID is a path", append(node, "../x"), 1, "FAIL  volume       there is no such directory", "1 of 7 checks failed"},
		{"the token itself", []string{"doctor", token}, 2, "", "is a token itself"},
		{"the token as a flag's value", []string{"doctor", "--kubeconfig", token}, 2, "", "is a token itself"},
		{"two arguments", []string{"doctor", "a", "b"}, 2, "", "at most, not 2"},
		{"unknown output", []string{"doctor", "-o", "yaml"}, 2, "", `--output "yaml"`},
		{"a process without a volume", []string{"doctor", "--pid=1"}, 2, "", "--pid needs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), tt.args, nil, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.out) || !strings.Contains(stderr.String(), tt.says) {
				t.Errorf("exit %d, want %d; stdout %q, want %q in it; stderr %q, want %q in it",
					code, tt.code, &stdout, tt.out, &stderr, tt.says)
			}
		})
	}
	var stdout, stderr bytes.Buffer
	var results []map[string]string
	code := run(context.Background(), append(node, "-o", "json", broken), nil, &stdout, &stderr)
	if err := json.Unmarshal(stdout.Bytes(), &results); err != nil || code != 1 || len(results) != 7 ||
		results[6]["status"] != "FAIL" || results[6]["check"] != "volume" || results[6]["volume"] != broken || results[6]["advice"] == "" {
		t.Errorf("json: exit %d, %v: %s%s", code, err, &stdout, &stderr)
	}
}
