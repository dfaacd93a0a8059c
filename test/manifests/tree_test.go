//go:build manifests

package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"k8s.io/apimachinery/pkg/util/yaml"
)

const kustomizationFile = "kustomization.yaml"

// tree is what there is to check below a directory. Paths are relative to it.
type tree struct {
	kustomizations []string // directories
	plain          []string // manifests outside of kustomizations
	// unchecked are Components and manifests in a kustomization's directory
	// that no Kustomization uses, so that nothing checks them.
	unchecked []string
}

func readTree(fsys fs.FS) (tree, error) {
	var t tree
	files := map[string][]any{}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(p)) {
			files[p], err = readDocuments(fsys, p)
		}
		return err
	})
	if err != nil {
		return tree{}, err
	}
	used := map[string]bool{}
	for p, documents := range files {
		if path.Base(p) == kustomizationFile && !isComponent(documents) {
			t.kustomizations = append(t.kustomizations, path.Dir(p))
			use(p, files, used)
		}
	}
	for p, documents := range files {
		switch {
		case used[p] || path.Base(p) != kustomizationFile && !slices.ContainsFunc(documents, isObject):
		case path.Base(p) == kustomizationFile || belowKustomization(p, files):
			t.unchecked = append(t.unchecked, p)
		default:
			t.plain = append(t.plain, p)
		}
	}
	slices.Sort(t.kustomizations)
	slices.Sort(t.plain)
	slices.Sort(t.unchecked)
	return t, nil
}

// use marks a kustomization's file and all files that it leads to: whatever
// string in it is the path of one.
func use(p string, files map[string][]any, used map[string]bool) {
	if _, ok := files[p]; !ok || used[p] {
		return
	}
	used[p] = true
	if path.Base(p) != kustomizationFile {
		return
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			target := path.Join(path.Dir(p), v)
			use(target, files, used)
			use(path.Join(target, kustomizationFile), files, used)
		case []any:
			for _, child := range v {
				walk(child)
			}
		case map[string]any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(files[p])
}

func isComponent(documents []any) bool {
	return slices.ContainsFunc(documents, func(d any) bool {
		m, _ := d.(map[string]any)
		return m["kind"] == "Component"
	})
}

func isObject(document any) bool {
	m, _ := document.(map[string]any)
	return m["apiVersion"] != nil && m["kind"] != nil
}

func belowKustomization(p string, files map[string][]any) bool {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if _, ok := files[path.Join(dir, kustomizationFile)]; ok {
			return true
		}
		if dir == "." {
			return false
		}
	}
}

// readDocuments reads all YAML documents of a file but the empty ones.
func readDocuments(fsys fs.FS, p string) ([]any, error) {
	content, err := fs.ReadFile(fsys, p)
	if err != nil {
		return nil, err
	}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	var documents []any
	for {
		var d any
		if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
			return documents, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading %s: %w", p, err)
		}
		if d != nil {
			documents = append(documents, d)
		}
	}
}

// TestReadTree: nothing may be left out unseen.
func TestReadTree(t *testing.T) {
	const object = "apiVersion: v1\nkind: ConfigMap\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  tree
	}{
		{"nothing", map[string]string{"alerts.yaml": "groups: []\n", "README.md": "words"}, tree{}},
		{"a kustomization and its files", map[string]string{
			"base/kustomization.yaml":      "resources: [object.yaml]\n",
			"base/object.yaml":             object,
			"over/lay/kustomization.yaml":  "kind: Kustomization\nresources: [../../base]\npatches: [{path: patch.yaml}]\ncomponents: [../../part]\n",
			"over/lay/patch.yaml":          object,
			"part/kustomization.yaml":      "kind: Component\nresources: [inner/object.yaml]\n",
			"part/inner/object.yaml":       object,
			"part/inner/notkubernetes.yml": "groups: []\n",
		}, tree{kustomizations: []string{"base", "over/lay"}}},
		{"a file that nothing lists", map[string]string{
			"base/kustomization.yaml":   "resources: []\n",
			"base/below/forgotten.yaml": object,
		}, tree{kustomizations: []string{"base"}, unchecked: []string{"base/below/forgotten.yaml"}}},
		{"a component that no overlay has", map[string]string{
			"part/kustomization.yaml": "kind: Component\nresources: [object.yaml]\n",
			"part/object.yaml":        object,
		}, tree{unchecked: []string{"part/kustomization.yaml", "part/object.yaml"}}},
		{"plain files", map[string]string{"a.yaml": object, "b/c.yml": "# words\n---\n" + object, "d.json": `{"apiVersion": "v1", "kind": "Pod"}`},
			tree{plain: []string{"a.yaml", "b/c.yml", "d.json"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for p, content := range c.files {
				fsys[p] = &fstest.MapFile{Data: []byte(content)}
			}
			got, err := readTree(fsys)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	_, err := readTree(fstest.MapFS{"a.yaml": {Data: []byte("a: [\n")}})
	if err == nil || !strings.Contains(err.Error(), "a.yaml") {
		t.Errorf("a file that is no YAML: got %v, want an error that names it", err)
	}
}
