//go:build manifests

package manifests

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRefused spoils the sample, one line at a time: the checks can fail.
func TestRefused(t *testing.T) {
	const (
		schema = "kubeconform"
		server = "API server"
	)
	sample, err := build(t.Context(), filepath.Join("testdata", "sample", "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		old, new string
		by       []string
		object   string
	}{
		{"a misspelt field", "replicas: 2", "replica: 2", []string{schema, server}, "Deployment web"},
		{"a wrong type", "replicas: 2", `replicas: "two"`, []string{schema, server}, "Deployment web"},
		{"a misspelt field further in", "readinessProbe:", "readynessProbe:", []string{schema, server}, "Deployment web"},
		{"a missing field", "containerPort: 8080", "hostPort: 8080", []string{schema, server}, "Deployment web"},
		{"a wrong word", "imagePullPolicy: Always", "imagePullPolicy: Sometimes", []string{schema, server}, "Deployment web"},
		{"neither number nor name", "targetPort: http", "targetPort: {name: http}", []string{schema, server}, "Service web"},
		{"no quantity", "cpu: 1500m", "cpu: [1500m]", []string{schema, server}, "Deployment web"},
		{"an unknown kind", "kind: DaemonSet", "kind: DemonSet", []string{schema, server}, "DemonSet agent"},
		{"an unknown version", "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1beta1", []string{schema, server}, "ClusterRole sample"},
		{"a custom resource's misspelt field", "podMetricsEndpoints:", "podMetricEndpoints:", []string{schema, server}, "PodMonitor web"},
		{"a custom resource's wrong type", "interval: 30s", "interval: 30", []string{schema, server}, "PodMonitor web"},
		{"a custom resource's wrong form", "interval: 30s", "interval: soon", []string{schema, server}, "PodMonitor web"},
		{"a custom resource's misspelt metadata", "annotations:", "anotations:", []string{schema, server}, "PodMonitor web"},
		{"a field without a value", "replicas: 2", "replicas:", []string{schema}, "Deployment web"},
		{"a quantity out of form", "cpu: 1500m", "cpu: 1500x", []string{server}, "Deployment web"},
		{"a port out of range", "containerPort: 8080", "containerPort: 80800", []string{server}, "Deployment web"},
		{"an expression that is none", "expression: object.", "expression: object..", []string{server}, "ValidatingAdmissionPolicy sample"},
		{"no namespace", "name: agent\n  namespace: sample", "name: agent", []string{server}, "DaemonSet agent"},
		{"what the server warns of", "kubernetes.io/os: linux", "beta.kubernetes.io/os: linux", []string{server}, "Deployment web"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(string(sample), c.old) {
				t.Fatalf("the sample has no %q:\n%s", c.old, sample)
			}
			spoilt := []byte(strings.Replace(string(sample), c.old, c.new, 1))
			objects, err := parse(spoilt)
			if err != nil {
				t.Fatal(err)
			}
			var by []string
			for _, f := range findAll(t, spoilt, objects) {
				t.Logf("%s: %s", f.object, f.why)
				who, _, _ := strings.Cut(f.why, ":")
				by = append(by, who)
				if f.object != c.object {
					t.Errorf("%s is refused, which is as it was", f.object)
				}
			}
			if !slices.Equal(by, c.by) {
				t.Errorf("refused by %q, want %q", by, c.by)
			}
		})
	}
}

// TestParseRefuses: what comes later would not see this any more.
func TestParseRefuses(t *testing.T) {
	for name, manifests := range map[string]string{
		"nothing":         "# words\n---\n",
		"the same key":    "apiVersion: v1\nkind: ConfigMap\ndata: {a: b, a: c}\n",
		"what is no YAML": "a: [\n",
	} {
		if objects, err := parse([]byte(manifests)); err == nil {
			t.Errorf("%s: got %v, want an error", name, objects)
		}
	}
}
