package tokenfile_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/document"
	"github.com/token-projector/token-projector/test/module"
)

// example is a program that sends the token of TOKEN_PATH to URL about once a second.
type example struct {
	name  string
	needs string // a program that a machine may be without
	argv  []string
	stays bool // with its first token
}

// examples are the programs of docs/consumers.md, and two of them that were broken, so
// that this test shows what it would notice.
func examples(t *testing.T, bin string) []example {
	t.Helper()
	python, shell, wrapped := block(t, "python", "urllib"), block(t, "sh", "while sleep 1; do\n\tprintf"), block(t, "sh", "projectorctl exec")
	once := strings.NewReplacer(`$(cat "$TOKEN_PATH")`, "$token").Replace(shell)
	unheard := strings.NewReplacer("trap reread HUP", "trap : HUP").Replace(wrapped)
	if once == shell || unheard == wrapped {
		t.Fatal("the examples can't be broken in this way any more")
	}
	return []example{
		{name: "Go", argv: []string{buildExample(t, bin)}},
		{name: "Python", needs: "python3", argv: []string{"python3", "-c", python}},
		{name: "shell", needs: "curl", argv: []string{"sh", "-c", shell}},
		{name: "exec", needs: "curl", argv: []string{"sh", "-c", wrapped}},
		{name: "read once", needs: "curl", argv: []string{"sh", "-c", "token=$(cat \"$TOKEN_PATH\")\n" + once}, stays: true},
		{name: "exec unheard", needs: "curl", argv: []string{"sh", "-c", unheard}, stays: true},
	}
}

// block is the block of docs/consumers.md in a language that has a text in it.
func block(t *testing.T, language, has string) string {
	t.Helper()
	blocks, err := document.Blocks(t.Context(), "consumers.md", language)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if strings.Contains(b, has) {
			return b
		}
	}
	t.Fatalf("docs/consumers.md has no block of %s with %q", language, has)
	return ""
}

// buildExample compiles the one in Go, with the module's own go.mod.
func buildExample(t *testing.T, bin string) string {
	t.Helper()
	root, err := module.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	source, program := filepath.Join(bin, "main.go"), filepath.Join(bin, "example")
	if err := os.WriteFile(source, []byte(block(t, "go", "package main")), 0600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", program, source)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// TestDocumentedExamples runs each while the token is replaced, as the kubelet does it
// and as we do. It is not parallel, and so alone: it compiles, and others measure time.
func TestDocumentedExamples(t *testing.T) {
	bin := t.TempDir()
	if _, err := daemon.BuildCommand(t.Context(), bin, "projectorctl", false); err != nil {
		t.Fatal(err)
	}
	all := examples(t, bin)
	for _, w := range ways[:2] {
		for _, e := range all {
			t.Run(e.name+", "+w.name, func(t *testing.T) {
				t.Parallel()
				if _, err := exec.LookPath(e.needs); e.needs != "" && err != nil {
					t.Skipf("needs %s: %v", e.needs, err)
				}
				e.follows(t, w, bin)
			})
		}
	}
}

// late is how many requests may come with the last token when there is another:
// one was under way, and programs that are told of the other take a moment.
const late = 4

// follows runs the example through some rotations.
func (e example) follows(t *testing.T, w way, bin string) {
	t.Helper()
	dir, headers := t.TempDir(), make(chan string, 1000)
	put, err := w.begin(dir)
	if err == nil {
		err = put(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		headers <- r.Header.Get("Authorization")
	}))
	t.Cleanup(server.Close)
	said := e.start(t, "PATH="+bin+":"+os.Getenv("PATH"), "TOKEN_PATH="+path(dir), "URL="+server.URL, "no_proxy=*", "NO_PROXY=*")

	sends := func(n int) bool {
		t.Helper()
		for range late + 1 {
			select {
			case header := <-headers:
				switch header {
				case "Bearer " + token(n):
					return true
				case "Bearer " + token(n-1):
				default:
					t.Fatalf("it sends %.60q, neither token %d nor the one before", header, n)
				}
			case <-time.After(patience):
				t.Fatalf("it sends nothing:\n%s", said())
			}
		}
		return false
	}
	if !sends(1) {
		t.Fatal("it does not send the first token")
	}
	for n := 2; n <= 4; n++ {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
		if sends(n) == e.stays {
			t.Fatalf("after token %d came, it stays with the one before: %t, want %t\n%s", n, !e.stays, e.stays, said())
		}
		if e.stays {
			return
		}
	}
}

// start runs the example until the test ends, with all that it starts. It returns what
// ends it before and says what it has printed.
func (e example) start(t *testing.T, env ...string) (said func() string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(e.argv[0], e.argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	return func() string {
		end()
		return out.String()
	}
}
