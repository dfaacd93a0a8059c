//go:build faults

package faults

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/isolate"
)

// program is projectord.
var program string

func TestMain(m *testing.M) {
	os.Exit(isolate.Run(func() int {
		dir, err := os.MkdirTemp("", "projectord-faults-")
		if err == nil {
			defer func() { _ = os.RemoveAll(dir) }()
			program, err = daemon.Build(context.Background(), dir, false)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}))
}
