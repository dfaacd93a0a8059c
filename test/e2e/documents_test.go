//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// document is one whose command blocks are run, in their order.
type document struct {
	*rig
	name   string
	dir    string // where they are run: it has a copy of deploy/
	blocks []string
}

// repository is the main module's directory.
const repository = "../.."

// workingCopy is a directory with a copy of deploy/, for commands that write.
func (r *rig) workingCopy() string {
	r.Helper()
	dir := r.TempDir()
	r.must(os.CopyFS(filepath.Join(dir, "deploy"), os.DirFS(filepath.Join(repository, "deploy"))))
	return dir
}

// document reads one of docs/.
func (r *rig) document(name, dir string) *document {
	r.Helper()
	d := &document{rig: r, name: name, dir: dir}
	text := r.hostFile(filepath.Join(repository, "docs", name))
	for {
		_, rest, found := strings.Cut(text, "\n```sh\n")
		if !found {
			return d
		}
		block, after, closed := strings.Cut(rest, "\n```\n")
		if !closed {
			r.Fatalf("%s: a block does not end", name)
		}
		d.blocks, text = append(d.blocks, block), "\n"+after
	}
}

// next runs the next block, which must have this text in it, and returns what it
// prints.
func (d *document) next(has string) string {
	d.Helper()
	if len(d.blocks) == 0 || !strings.Contains(d.blocks[0], has) {
		d.Fatalf("%s: the next block should have %q: %q", d.name, has, d.blocks)
	}
	cmd := exec.CommandContext(d.ctx, "bash", "-euo", "pipefail", "-c", d.blocks[0])
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "HOME="+d.machine.Dir, "KUBECONFIG="+d.kubeconfig,
		"PATH="+filepath.Dir(d.kubectl)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.Fatalf("%s: %v\n%s\n%s", d.name, err, d.blocks[0], out)
	}
	d.Logf("%s:\n%s\n%s", d.name, d.blocks[0], out)
	d.blocks = d.blocks[1:]
	return string(out)
}

// done says that all blocks have been run.
func (d *document) done() {
	d.Helper()
	if len(d.blocks) > 0 {
		d.Errorf("%s: these blocks were not run: %q", d.name, d.blocks)
	}
}
