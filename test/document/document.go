// Package document finds in the documents what tests run of them.
package document

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/token-projector/token-projector/test/module"
)

// Blocks are those of one of docs/ in one language.
func Blocks(ctx context.Context, name, language string) ([]string, error) {
	root, err := module.Root(ctx)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, match := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?\n)```\n").FindAllStringSubmatch(string(text), -1) {
		all = append(all, match[1])
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("docs/%s has no block of %s", name, language)
	}
	return all, nil
}
