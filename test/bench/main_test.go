package bench

import (
	"fmt"
	"os"
	"testing"

	"github.com/token-projector/token-projector/test/isolate"
)

func TestMain(m *testing.M) {
	if order := os.Getenv(countEnv); order != "" {
		if err := publishCounted(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if socket := os.Getenv(floodEnv); socket != "" {
		if err := flood(socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(isolate.Run(m.Run))
}
