package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// TestDocumentedTestsExist: some documents say which test shows what, and a test
// that is renamed must take them along.
func TestDocumentedTestsExist(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		tests.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for document, least := range map[string]int{"reliability.md": 20, "security.md": 10, "compatibility.md": 3, "consumers.md": 2} {
		text, err := os.ReadFile(root + "/docs/" + document)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`((?:Test|Benchmark)[A-Za-z0-9]+)(?:/([a-z_]+))?`").FindAllStringSubmatch(string(text), -1)
		if len(named) < least {
			t.Fatalf("%s names only %d tests; is this still the right pattern?", document, len(named))
		}
		for _, n := range named {
			if !strings.Contains(tests.String(), "func "+n[1]+"(") {
				t.Errorf("%s: there is no %s", document, n[1])
			}
			if n[2] != "" && !strings.Contains(tests.String(), `"`+n[2]+`":`) {
				t.Errorf("%s: there is no %s in %s", document, n[2], n[1])
			}
		}
	}
}

// TestEachAlertIsInTheRunbook, and no other is.
func TestEachAlertIsInTheRunbook(t *testing.T) {
	find := func(file, pattern string) (names []string) {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			names = append(names, match[1])
		}
		return names
	}
	alerts := find("deploy/monitoring/alerts.yaml", `(?m)^ +- alert: (\w+)$`)
	if entries := find("docs/runbook.md", `(?m)^## (\w+)$`); len(alerts) == 0 || !slices.Equal(alerts, entries) {
		t.Errorf("alerts %q, entries of the runbook %q", alerts, entries)
	}
}
