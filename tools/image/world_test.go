package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// noEnv is an environment without SOURCE_DATE_EPOCH.
func noEnv(string) (string, bool) { return "", false }

// source commits a module with two programs into a new repository, of which one says
// how it was called. Wherever it lies, the commit is the same.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.com/twins\n\ngo 1.26\n")
	write(t, dir, "one/main.go", "package main\n\nimport \"os\"\n\nfunc main() { println(os.Args[0]) }\n")
	write(t, dir, "two/main.go", "package main\n\nfunc main() { println(2) }\n")
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "Add twins"}} {
		command(t, dir, []string{
			"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2024-05-06T07:08:09Z",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=2024-05-06T07:08:09Z",
		}, "git", args...)
	}
	return dir
}

// compile builds one program of a source tree and says where it is.
func compile(t *testing.T, dir, program, system, arch string, flags ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), program)
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", file}, flags...)
	command(t, dir, []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=true", "GOOS=" + system, "GOARCH=" + arch}, "go", append(args, "./"+program)...)
	return file
}

// twins are a program for both platforms.
func twins(t *testing.T, dir string) []string {
	t.Helper()
	return []string{compile(t, dir, "one", "linux", "amd64"), compile(t, dir, "one", "linux", "arm64")}
}

// built is what run left.
type built struct {
	archive string
	sbomDir string
	result  string
}

// buildImage runs the program as `make image` does, with more arguments.
func buildImage(t *testing.T, env func(string) (string, bool), more ...string) built {
	t.Helper()
	dir := t.TempDir()
	b := built{archive: filepath.Join(dir, "image.tar"), sbomDir: dir}
	var stdout bytes.Buffer
	args := append([]string{"-name", "example.com/twins:1", "-o", b.archive, "-sbom", dir, "-label", labelLicenses + "=Apache-2.0"}, more...)
	if err := run(args, env, &stdout, io.Discard); err != nil {
		t.Fatal(err)
	}
	b.result = stdout.String()
	return b
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func command(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}
