//go:build manifests

package manifests

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// server asks the API server whether it would take objects.
type server struct {
	client dynamic.Interface
	mapper meta.RESTMapper
	// warnings are those of the last request.
	warnings []string
}

func newServer(cfg *rest.Config) (*server, error) {
	s := &server{}
	cfg = rest.CopyConfig(cfg)
	cfg.WarningHandler = s
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	resources, err := restmapper.GetAPIGroupResources(client)
	if err != nil {
		return nil, fmt.Errorf("asking the API server for its resources: %w", err)
	}
	s.mapper = restmapper.NewDiscoveryRESTMapper(resources)
	s.client, err = dynamic.NewForConfig(cfg)
	return s, err
}

// HandleWarningHeader implements rest.WarningHandler.
func (s *server) HandleWarningHeader(_ int, _, text string) { s.warnings = append(s.warnings, text) }

// check applies the objects in a dry run, for which their namespaces must
// exist. A warning of the server counts as a refusal: every user would see it.
func (s *server) check(ctx context.Context, objects []*unstructured.Unstructured) ([]finding, error) {
	for _, object := range objects {
		if err := s.makeNamespace(ctx, object.GetNamespace()); err != nil {
			return nil, err
		}
	}
	var findings []finding
	for _, object := range objects {
		if err := s.dryRun(ctx, object); err != nil {
			findings = append(findings, finding{object.GetKind() + " " + object.GetName(), "API server: " + err.Error()})
		}
	}
	return findings, nil
}

func (s *server) makeNamespace(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	namespace := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}
	client := s.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	if _, err := client.Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %s: %w", name, err)
	}
	return nil
}

func (s *server) dryRun(ctx context.Context, object *unstructured.Unstructured) error {
	gvk := object.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	var client dynamic.ResourceInterface = s.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if object.GetNamespace() == "" {
			return errors.New("it has no namespace, so it would go wherever the user happens to be")
		}
		client = s.client.Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	body, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	s.warnings = nil
	force := true
	_, err = client.Patch(ctx, object.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager: "manifests", FieldValidation: metav1.FieldValidationStrict, Force: &force, DryRun: []string{metav1.DryRunAll},
	})
	if err == nil && len(s.warnings) > 0 {
		return fmt.Errorf("it warns: %s", strings.Join(s.warnings, "; "))
	}
	return err
}
