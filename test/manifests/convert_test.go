//go:build manifests

package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

const (
	componentPrefix  = "#/components/schemas/"
	definitionPrefix = "#/$defs/"
)

// jsonSchema makes a JSON schema of one of OpenAPI 3.0 as Kubernetes uses it.
// An object has no fields but the known ones, unless it preserves unknown
// fields. That holds for strict schemas; those within anyOf and the like name
// only some of the fields.
//
// A null is refused where the API server would take it for nothing at all: in
// a manifest it is a mistake.
func jsonSchema(in map[string]any, strict bool) (_ map[string]any, err error) {
	out := map[string]any{}
	for key, value := range in {
		switch key {
		case "type", "enum", "required", "pattern", "minimum", "maximum",
			"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "uniqueItems":
			out[key] = value
		case "$ref":
			out[key] = definitionPrefix + strings.TrimPrefix(value.(string), componentPrefix)
		case "properties":
			out[key], err = jsonSchemas(value.(map[string]any), strict)
		case "items", "additionalProperties", "not":
			if s, ok := value.(map[string]any); ok {
				out[key], err = jsonSchema(s, strict && key != "not")
			} else {
				out[key] = value
			}
		case "allOf", "anyOf", "oneOf":
			out[key], err = jsonSchemaList(value.([]any))
		case "description", "default", "format": // the API server checks formats
		default:
			if !strings.HasPrefix(key, "x-kubernetes-") {
				return nil, fmt.Errorf("the schema's keyword %s is not known here: teach it to jsonSchema", key)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if strict && in["properties"] != nil && in["additionalProperties"] == nil && in["x-kubernetes-preserve-unknown-fields"] != true {
		out["additionalProperties"] = false
	}
	if in["x-kubernetes-int-or-string"] == true {
		out["type"] = []string{"integer", "string"}
	}
	return out, nil
}

func jsonSchemas(in map[string]any, strict bool) (map[string]any, error) {
	out := maps.Clone(in)
	for name, s := range in {
		converted, err := jsonSchema(s.(map[string]any), strict)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = converted
	}
	return out, nil
}

func jsonSchemaList(in []any) ([]any, error) {
	var out []any
	for _, s := range in {
		converted, err := jsonSchema(s.(map[string]any), false)
		if err != nil {
			return nil, err
		}
		out = append(out, converted)
	}
	return out, nil
}

func TestJSONSchema(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"an object has its own fields only", `{"properties": {"a": {"type": "string", "description": "words"}}}`,
			`{"properties": {"a": {"type": "string"}}, "additionalProperties": false}`},
		{"unless it preserves others", `{"properties": {"a": {}}, "x-kubernetes-preserve-unknown-fields": true}`, `{"properties": {"a": {}}}`},
		{"or is a map", `{"additionalProperties": {"properties": {"a": {}}}}`,
			`{"additionalProperties": {"properties": {"a": {}}, "additionalProperties": false}}`},
		{"an alternative names some of the fields", `{"properties": {"a": {}}, "anyOf": [{"properties": {"a": {"properties": {"b": {}}}}}]}`,
			`{"properties": {"a": {}}, "anyOf": [{"properties": {"a": {"properties": {"b": {}}}}}], "additionalProperties": false}`},
		{"a number or a name", `{"x-kubernetes-int-or-string": true}`, `{"type": ["integer", "string"]}`},
		{"another schema", `{"allOf": [{"$ref": "#/components/schemas/a.B"}], "default": {}}`, `{"allOf": [{"$ref": "#/$defs/a.B"}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var in map[string]any
			var want any
			if err := errors.Join(json.Unmarshal([]byte(c.in), &in), json.Unmarshal([]byte(c.want), &want)); err != nil {
				t.Fatal(err)
			}
			out, err := jsonSchema(in, true)
			got, _ := json.Marshal(out)
			wanted, _ := json.Marshal(want)
			if err != nil || string(got) != string(wanted) {
				t.Errorf("got %s, %v, want %s", got, err, wanted)
			}
		})
	}
}

// TestUnknownKeyword: a rule that is not understood must not be left out.
func TestUnknownKeyword(t *testing.T) {
	_, err := jsonSchema(map[string]any{"properties": map[string]any{"a": map[string]any{"nullable": true}}}, true)
	if err == nil || !strings.Contains(err.Error(), "nullable") {
		t.Errorf("got %v, want an error that names the keyword", err)
	}
}
