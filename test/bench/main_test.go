package bench

import (
	"os"
	"testing"

	"github.com/token-projector/token-projector/test/isolate"
)

func TestMain(m *testing.M) { os.Exit(isolate.Run(m.Run)) }
