//go:build manifests

package manifests

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// finding is what is wrong with one object.
type finding struct {
	object, why string
}

// build is `kustomize build`. A warning of kustomize is an error here: every
// user would see it.
func build(ctx context.Context, dir string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, kustomize, "build", dir)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("building %s: %w: %s", dir, err, &stderr)
	}
	if stderr.Len() > 0 {
		return nil, fmt.Errorf("building %s: kustomize warns: %s", dir, &stderr)
	}
	return stdout.Bytes(), nil
}

// checkSchemas is what kubeconform says of a stream of manifests that has this
// many objects.
func checkSchemas(ctx context.Context, manifests []byte, objects int) ([]finding, error) {
	cmd := exec.CommandContext(ctx, kubeconform, "-strict", "-summary", "-output", "json",
		"-schema-location", filepath.Join(schemas, schemaFile))
	cmd.Stdin = bytes.NewReader(manifests)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("running kubeconform: %w", err)
	}
	var report struct {
		Resources []struct {
			Kind, Name, Msg string
		}
		Summary struct{ Valid int }
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, fmt.Errorf("reading kubeconform's report: %w: %s", err, out)
	}
	var findings []finding
	for _, r := range report.Resources { // those that are not valid
		findings = append(findings, finding{r.Kind + " " + r.Name, "kubeconform: " + r.Msg})
	}
	if err != nil && len(findings) == 0 {
		return nil, fmt.Errorf("running kubeconform: %w: %s", err, out)
	}
	if total := report.Summary.Valid + len(findings); total != objects {
		return nil, fmt.Errorf("kubeconform reports on %d of %d objects: %s", total, objects, out)
	}
	return findings, nil
}

// parse reads all objects of a stream of manifests, of which there must be at least one.
func parse(manifests []byte) ([]*unstructured.Unstructured, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests)))
	var objects []*unstructured.Unstructured
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		var object unstructured.Unstructured
		if err := yaml.UnmarshalStrict(document, &object.Object); err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, &object)
		}
	}
	if len(objects) == 0 {
		return nil, errors.New("there is no object")
	}
	return objects, nil
}
