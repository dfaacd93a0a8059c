//go:build manifests

package manifests

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/rest"
)

// schemaFile is where a kind's schema lies, in kubeconform's words. Its Group
// is the version, v1, for the core group.
const schemaFile = "{{.Group}}/{{.ResourceAPIVersion}}/{{.ResourceKind}}.json"

// kinds are what the server says of one group and version.
type kinds struct {
	names   map[string]string         // kind -> name of its schema
	schemas map[string]map[string]any // as in OpenAPI 3.0
}

// writeSchemas writes one JSON schema file for each kind that the server
// serves.
func writeSchemas(cfg *rest.Config, dir string) error {
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return fmt.Errorf("reading the API server's schemas: %w", err)
	}
	for path, document := range paths {
		group, version := "", ""
		if rest, ok := strings.CutPrefix(path, "apis/"); ok {
			group, version, _ = strings.Cut(rest, "/")
		} else if rest, ok := strings.CutPrefix(path, "api/"); ok {
			version = rest
		}
		if version == "" {
			continue // the index of a group; it has no kinds
		}
		if err := writeGroupVersion(document, schema.GroupVersion{Group: group, Version: version}, dir); err != nil {
			return fmt.Errorf("making schemas of %s: %w", path, err)
		}
	}
	return nil
}

func writeGroupVersion(document openapi.GroupVersion, gv schema.GroupVersion, dir string) error {
	k, err := readKinds(document, gv)
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, gv.Group, gv.Version)
	if gv.Group == "" {
		folder = filepath.Join(dir, gv.Version, gv.Version)
	}
	if err := os.MkdirAll(folder, 0700); err != nil {
		return err
	}
	definitions := map[string]any{}
	for name, s := range k.schemas {
		if definitions[name], err = jsonSchema(s, true); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for kind, name := range k.names {
		used := map[string]any{}
		collect(name, definitions, used)
		content, err := json.Marshal(map[string]any{
			"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": definitionPrefix + name, "$defs": used,
		})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, strings.ToLower(kind)+".json"), content, 0600); err != nil {
			return err
		}
	}
	return nil
}

// readKinds finds the kinds of a group and version. A schema may be several
// kinds (DeleteOptions is one in each group), and a document has schemas of
// other groups too.
func readKinds(document openapi.GroupVersion, gv schema.GroupVersion) (kinds, error) {
	content, err := document.Schema(runtime.ContentTypeJSON)
	if err != nil {
		return kinds{}, err
	}
	var parsed struct {
		Components struct {
			Schemas map[string]map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(content, &parsed); err != nil {
		return kinds{}, err
	}
	k := kinds{names: map[string]string{}, schemas: parsed.Components.Schemas}
	for name, s := range k.schemas {
		served, _ := s["x-kubernetes-group-version-kind"].([]any)
		for _, entry := range served {
			gvk, _ := entry.(map[string]any)
			if gvk["group"] == gv.Group && gvk["version"] == gv.Version {
				k.names[fmt.Sprint(gvk["kind"])] = name
			}
		}
	}
	return k, nil
}

// collect adds a definition and all that it refers to to used.
func collect(name string, definitions, used map[string]any) {
	if _, ok := used[name]; ok {
		return
	}
	used[name] = definitions[name]
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				collect(strings.TrimPrefix(ref, definitionPrefix), definitions, used)
			}
			for child := range maps.Values(v) {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(definitions[name])
}
