//go:build manifests

package manifests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// The custom resources that manifests use, from the module that defines them;
// the Go command compares it with its checksum database. Only files are read
// from it, so it is no requirement of this module.
const (
	crdModule = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	crdFiles  = "example/prometheus-operator-crd/monitoring.coreos.com_%s.yaml"
)

var (
	crdVersion = schema.GroupVersion{Group: "monitoring.coreos.com", Version: "v1"}
	crds       = map[string]string{"podmonitors": "PodMonitor", "prometheusrules": "PrometheusRule"}
)

// installCRDs creates the CustomResourceDefinitions and waits until the server
// serves them and publishes their schemas.
func installCRDs(ctx context.Context, cfg *rest.Config) error {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	dir, err := moduleDir(ctx, crdModule)
	if err != nil {
		return err
	}
	definitions := client.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	for name := range crds {
		content, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf(crdFiles, name)))
		if err != nil {
			return fmt.Errorf("reading a CustomResourceDefinition of %s: %w", crdModule, err)
		}
		var crd unstructured.Unstructured
		if err := yaml.Unmarshal(content, &crd.Object); err != nil {
			return fmt.Errorf("reading CustomResourceDefinition %s: %w", name, err)
		}
		if _, err := definitions.Create(ctx, &crd, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating CustomResourceDefinition %s: %w", name, err)
		}
	}
	return waitPublished(ctx, cfg)
}

// waitPublished waits for the schemas, which the server publishes after it
// begins to serve the resources.
func waitPublished(ctx context.Context, cfg *rest.Config) error {
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		paths, err := client.OpenAPIV3().Paths()
		if err != nil {
			return false, err
		}
		document, ok := paths["apis/"+crdVersion.String()]
		if !ok {
			return false, nil
		}
		published, err := readKinds(document, crdVersion)
		if err != nil {
			return false, err
		}
		for _, kind := range crds {
			if published.names[kind] == "" {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the API server to publish the schemas of %s: %w", crdVersion, err)
	}
	return nil
}

// moduleDir downloads a Go module, if it is not there yet.
func moduleDir(ctx context.Context, module string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", module).Output()
	if err != nil {
		return "", fmt.Errorf("downloading the Go module %s: %w\n%s", module, err, out)
	}
	var result struct{ Dir string }
	if err := json.Unmarshal(out, &result); err != nil {
		return "", fmt.Errorf("downloading the Go module %s: %w", module, err)
	}
	return result.Dir, nil
}
