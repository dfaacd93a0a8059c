//go:build manifests

package manifests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// result counts what was checked.
type result struct{ kustomizations, resources, invalid int }

// TestDeploy checks everything below deploy/.
func TestDeploy(t *testing.T) {
	r := checkTree(t, filepath.Join("..", "..", "deploy"))
	fmt.Printf("RESULT manifests kustomizations=%d resources=%d invalid=%d\n", r.kustomizations, r.resources, r.invalid)
	if r.resources == 0 {
		t.Error("there is nothing to check below deploy/")
	}
}

// TestSample checks a tree of its own, which has what is hard to say in a
// schema: numbers or names, quantities, unknown fields, custom resources.
func TestSample(t *testing.T) {
	got, want := checkTree(t, filepath.Join("testdata", "sample")), result{kustomizations: 2, resources: 15}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// checkTree checks all kustomizations and plain manifests below a directory,
// each in a subtest.
func checkTree(t *testing.T, root string) (r result) {
	all, err := readTree(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all.unchecked {
		t.Errorf("%s: no kustomization uses it, so nothing checks it", filepath.Join(root, p))
	}
	check := func(name string, read func(context.Context, string) ([]byte, error)) {
		t.Run(name, func(t *testing.T) {
			manifests, err := read(t.Context(), filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			objects, err := parse(manifests)
			if err != nil {
				t.Fatal(err)
			}
			var invalid []string
			for _, f := range findAll(t, manifests, objects) {
				t.Errorf("%s: %s", f.object, f.why)
				invalid = append(invalid, f.object)
			}
			slices.Sort(invalid)
			r.resources += len(objects)
			r.invalid += len(slices.Compact(invalid))
		})
	}
	for _, dir := range all.kustomizations {
		r.kustomizations++
		check(dir, build)
	}
	for _, file := range all.plain {
		check(file, func(_ context.Context, p string) ([]byte, error) { return os.ReadFile(p) })
	}
	return r
}

// findAll checks a stream of manifests and the same objects in both ways.
func findAll(t *testing.T, manifests []byte, objects []*unstructured.Unstructured) []finding {
	t.Helper()
	bySchema, err := checkSchemas(t.Context(), manifests, len(objects))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(cluster.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	byServer, err := s.check(t.Context(), objects)
	if err != nil {
		t.Fatal(err)
	}
	return append(bySchema, byServer...)
}
