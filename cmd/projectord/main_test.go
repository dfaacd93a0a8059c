package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// asMain has the test's own executable be projectord.
const asMain = "PROJECTORD_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestCalledAs: the name projectorctl, wherever it is, makes it that program, and no
// other name does.
func TestCalledAs(t *testing.T) {
	for _, tt := range []struct{ called, arg, says string }{
		{"/projectord", "--version", "projectord "},
		{"/projectorctl", "version", "projectorctl:"},
		{"projectorctl", "version", "projectorctl:"},
		{"../some where/projectorctl", "version", "projectorctl:"},
		{"/projectorctl/projectord-1.2", "--version", "projectord "},
		{"my-projectorctl", "--version", "projectord "},
		{"projectorctl.old", "--version", "projectord "},
		{"Projectorctl", "--version", "projectord "},
		{"", "--version", "projectord "},
	} {
		t.Run(tt.called, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Args = []string{tt.called, tt.arg}
			cmd.Env = append(os.Environ(), asMain+"=yes")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), tt.says) {
				t.Errorf("%v, %q; want %q", err, out, tt.says)
			}
		})
	}
}
