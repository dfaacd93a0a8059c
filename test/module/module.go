// Package module finds the module under test.
package module

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Path is the module's.
const Path = "github.com/token-projector/token-projector"

// Root is the module's directory.
func Root(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", Path).Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module %s: %w", Path, err)
	}
	return strings.TrimSpace(string(root)), nil
}
