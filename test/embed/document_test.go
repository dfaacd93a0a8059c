// Package embed has a test only; what it tests of is below it.
package embed

import (
	"os"
	"strings"
	"testing"

	"github.com/token-projector/token-projector/test/document"
)

// TestEmbeddingDocument: the code of docs/embedding.md is what
// test/integration runs.
func TestEmbeddingDocument(t *testing.T) {
	code, err := document.Blocks(t.Context(), "embedding.md", "go")
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range []string{"whole/whole.go", "inmemory/inmemory.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(code) != 2 || !strings.Contains(string(text), code[i]) {
			t.Errorf("block %d of %d in docs/embedding.md is not in %s", i, len(code), file)
		}
	}
}
