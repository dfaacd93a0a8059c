package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

var update = flag.Bool("update", false, "rewrite docs/flags.md")

// environment is a fake of os.LookupEnv.
func environment(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}

func TestParse(t *testing.T) {
	required := []string{"--kubeconfig=/k", "--node-name=n"}
	tests := []struct {
		name  string
		args  []string
		env   map[string]string
		check func(*options) bool
	}{
		{"defaults", required, nil, func(o *options) bool {
			return o.rootDir == "/var/lib/projectord" && o.httpAddr == "127.0.0.1:9843" && o.medium == "" &&
				o.sizeLimit == 32<<20 && o.policy == rotation.DefaultPolicy() && o.selector.Empty()
		}},
		{"all from the environment", nil, map[string]string{
			"PROJECTORD_KUBECONFIG": "/k", "PROJECTORD_NODE_NAME": "n", "PROJECTORD_ROOT_DIR": "/r",
			"PROJECTORD_VERSION":       "v1.2.3", // of a chart, say; no flag
			"PROJECTORD_VOLUME_MEDIUM": "directory", "PROJECTORD_ROTATION_MAX_AGE": "1h", "PROJECTORD_V": "2",
		}, func(o *options) bool {
			return o.kubeconfig == "/k" && o.nodeName == "n" && o.rootDir == "/r" &&
				o.medium == projector.MediumDirectory && o.policy.MaxAge == time.Hour && o.verbosity == 2
		}},
		{"a flag wins over the environment", append(required, "--root-dir=/flag"), map[string]string{"PROJECTORD_ROOT_DIR": "/env"},
			func(o *options) bool { return o.rootDir == "/flag" }},
		{"NODE_NAME", []string{"--kubeconfig=/k"}, map[string]string{"NODE_NAME": "from-downward-api"},
			func(o *options) bool { return o.nodeName == "from-downward-api" }},
		{"in a Pod", nil, map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NODE_NAME": "n", "PROJECTORD_NAMESPACES": "a,b"},
			func(o *options) bool { return o.kubeconfig == "" && slices.Equal(o.namespaces, []string{"a", "b"}) }},
		{"the host's name", []string{"--kubeconfig=/k"}, nil, func(o *options) bool {
			host, err := os.Hostname()
			return err == nil && o.nodeName == strings.ToLower(host)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := parse(tt.args, environment(tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(o) {
				t.Errorf("options %+v", o)
			}
		})
	}
}

func TestBadUsageExitsWithTwoAndASentence(t *testing.T) {
	valid := []string{"--kubeconfig=/k", "--node-name=n"}
	tests := []struct {
		name string
		args []string
		env  map[string]string
		says string
	}{
		{"no kubeconfig", nil, nil, "--kubeconfig is required"},
		{"identity", append(valid, "--identity=root"), nil, `--identity "root"`},
		{"needless fallback", append(valid, "--identity=node", "--identity-fallback"), nil, "--identity-fallback"},
		{"pod source", append(valid, "--pod-source=all"), nil, `--pod-source "all"`},
		{"relative kubelet directory", append(valid, "--kubelet-dir=kubelet"), nil, `--kubelet-dir "kubelet"`},
		{"unknown flag", append(valid, "--nope"), nil, "unknown flag: --nope"},
		{"argument", append(valid, "serve"), nil, `unexpected argument "serve"`},
		{"medium", append(valid, "--volume-medium=disk"), nil, `--volume-medium "disk"`},
		{"size", append(valid, "--volume-size-limit=lots"), nil, `--volume-size-limit "lots"`},
		{"CSI endpoint", append(valid, "--csi-endpoint=/a/socket"), nil, `--csi-endpoint "/a/socket"`},
		{"CSI in directories", append(valid, "--csi-endpoint=unix:///s", "--volume-medium=directory"), nil, "--csi-endpoint needs --volume-medium=tmpfs"},
		{"CSI objects", append(valid, "--csi-objects=some"), nil, `--csi-objects "some"`},
		{"total size", append(valid, "--total-size-limit=-1"), nil, `--total-size-limit "-1"`},
		{"negative grace", append(valid, "--generation-grace=-1s"), nil, "--generation-grace"},
		{"negative size", append(valid, "--volume-size-limit=-1"), nil, "--volume-size-limit"},
		{"relative root", append(valid, "--root-dir=rel"), nil, `--root-dir "rel"`},
		{"address", append(valid, "--http-address=nonsense"), nil, `--http-address "nonsense"`},
		{"port", append(valid, "--http-address=127.0.0.1:http"), nil, "--http-address"},
		{"negative verbosity", append(valid, "--v=-3"), nil, "--v -3"},
		{"tiny fraction", append(valid, "--rotation-fraction=0.000000001"), nil, "rotation fraction 1e-09"},
		{"fraction", append(valid, "--rotation-fraction=1"), nil, "rotation fraction 1"},
		{"max age", append(valid, "--rotation-max-age=1s"), nil, "--rotation-max-age 1s"},
		{"no duration", append(valid, "--rotation-max-age=soon"), nil, "rotation-max-age"},
		{"spread", append(valid, "--rotation-spread=dice"), nil, `rotation spread "dice"`},
		{"selector", append(valid, "--pod-selector=a b"), nil, `--pod-selector "a b"`},
		{"log format", append(valid, "--log-format=xml"), nil, `--log-format "xml"`},
		{"rate", append(valid, "--kube-api-qps=0"), nil, "--kube-api-qps"},
		{"environment", valid, map[string]string{"PROJECTORD_V": "loud"}, `"loud" in the environment variable PROJECTORD_V`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), tt.args, environment(tt.env), &stdout, &stderr)
			if code != exitUsage || !strings.Contains(stderr.String(), tt.says) || stdout.Len() > 0 {
				t.Errorf("exit %d, stdout %q, stderr %q; want 2 and %q", code, &stdout, &stderr, tt.says)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for arg, want := range map[string]string{"--help": "--rotation-max-age", "--version": "projectord "} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), []string{arg}, environment(nil), &stdout, &stderr); code != exitOK ||
			!strings.Contains(stdout.String(), want) || stderr.Len() > 0 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", arg, code, &stdout, &stderr)
		}
	}
}

// TestFlagsAreDocumented compares docs/flags.md with --help; -update rewrites
// it.
func TestFlagsAreDocumented(t *testing.T) {
	const path = "../../docs/flags.md"
	want := "<!-- Generated from `projectord --help` by `make generate`. -->\n# Flags of projectord\n\n```\n" + usage() + "```\n"
	if *update {
		if err := os.WriteFile(path, []byte(want), 0644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what --help says: run 'make generate'", path)
	}
}
