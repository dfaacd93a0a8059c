package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// What `make image-check` asks for besides: the project's own image.
var layoutDir = flag.String("layout", "", "an OCI layout of projectord and projectorctl to check as well")

func TestImage(t *testing.T) {
	programs := twins(t, source(t))
	b := buildImage(t, noEnv, append([]string{"-alias", "other"}, programs...)...)
	checkLayout(t, unpack(t, b.archive), call{name: "one"}, call{name: "other"})
	if !regexp.MustCompile(`^RESULT image amd64_mib=\d+\.\d arm64_mib=\d+\.\d compressed_mib=\d+\.\d digest=sha256:[0-9a-f]{64}\n$`).MatchString(b.result) {
		t.Errorf("it prints %q", b.result)
	}
	if *layoutDir != "" {
		t.Run("layout", func(t *testing.T) {
			checkLayout(t, *layoutDir, call{"projectord", "--version"}, call{"projectorctl", "version"})
		})
	}
	t.Run("one name", func(t *testing.T) {
		checkLayout(t, unpack(t, buildImage(t, noEnv, programs...).archive), call{name: "one"})
	})
}

// The same commit in different directories, with the platforms in another order.
func TestSameBytes(t *testing.T) {
	p, q := twins(t, source(t)), twins(t, source(t))
	a, b := buildImage(t, noEnv, p...), buildImage(t, noEnv, q[1], q[0])
	if !bytes.Equal(read(t, a.archive), read(t, b.archive)) {
		t.Error("the archives differ")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		file := "sbom-" + arch + ".cdx.json"
		if !bytes.Equal(read(t, filepath.Join(a.sbomDir, file)), read(t, filepath.Join(b.sbomDir, file))) {
			t.Errorf("%s differs", file)
		}
	}
	if a.result != b.result {
		t.Errorf("the results differ: %q, %q", a.result, b.result)
	}
}

// What the index says of the version and the time.
func TestVersion(t *testing.T) {
	dir := source(t)
	clean := compile(t, dir, "one", "linux", "amd64")
	write(t, dir, "one/main.go", "package main\n\nfunc main() { println(3) }\n")
	dirty := compile(t, dir, "one", "linux", "amd64")
	loose := compile(t, dir, "one", "linux", "amd64", "-buildvcs=false")
	const stamp = "20240506070809-"
	for _, c := range []struct {
		name, program, epoch, created string
		version                       *regexp.Regexp
	}{
		{"of a commit", clean, "", "2024-05-06T07:08:09Z", regexp.MustCompile(`^v0\.0\.0-` + stamp + `[0-9a-f]{12}$`)},
		{"with changes", dirty, "", "2024-05-06T07:08:09Z", regexp.MustCompile(`^v0\.0\.0-` + stamp + `[0-9a-f]{12}\+dirty$`)},
		{"of no commit", loose, "", "1970-01-01T00:00:00Z", regexp.MustCompile(`^$`)},
		{"with an epoch", clean, "1000000000", "2001-09-09T01:46:40Z", regexp.MustCompile(stamp)},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := func(string) (string, bool) { return c.epoch, c.epoch != "" }
			outer, err := layout.ImageIndexFromPath(unpack(t, buildImage(t, env, c.program).archive))
			must(t, err)
			named, err := outer.IndexManifest()
			must(t, err)
			if got := named.Manifests[0].Annotations[annotationName]; got != "example.com/twins:1" {
				t.Errorf("its name is %q", got)
			}
			index, err := outer.ImageIndex(named.Manifests[0].Digest)
			must(t, err)
			manifest, err := index.IndexManifest()
			must(t, err)
			if got := manifest.Annotations[labelVersion]; !c.version.MatchString(got) {
				t.Errorf("its version is %q", got)
			}
			if got := manifest.Annotations[labelCreated]; got != c.created {
				t.Errorf("it was created %s, not %s", got, c.created)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	dir := source(t)
	p := twins(t, dir)
	write(t, dir, "text", "no program")
	text := filepath.Join(dir, "text")
	dirty := compile(t, dir, "one", "linux", "amd64")
	out := filepath.Join(t.TempDir(), "image.tar")
	named := []string{"-name", "example.com/twins:1", "-o", out}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no program", named, "at least one program"},
		{"no archive", []string{"-name", "example.com/twins:1", p[0]}, "-o and"},
		{"a name without a tag", []string{"-name", "example.com/twins", "-o", out, p[0]}, "-name: "},
		{"a name without a registry", []string{"-name", "twins:1", "-o", out, p[0]}, "-name: "},
		{"a label without a value", append([]string{"-label", "key"}, named...), "want KEY=VALUE"},
		{"no Go program", append(named, text), "only Go programs"},
		{"another system", append(named, compile(t, dir, "one", "darwin", "arm64")), "darwin/arm64: build it with GOOS=linux"},
		{"a dynamic program", append(named, compile(t, dir, "one", "linux", "amd64", "-buildmode=pie")), "CGO_ENABLED=0"},
		{"two versions", append(named, p[1], dirty), "of another version"},
		{"two programs", append(named, p[0], compile(t, dir, "two", "linux", "arm64")), "an image has one"},
		{"a platform twice", append(named, p[0], p[1], p[0]), "one for each platform"},
		{"an alias that it is called", append([]string{"-alias", "one"}, append(named, p...)...), "a file one already"},
		{"an alias that the SBOM is called", append([]string{"-alias", sbomName}, append(named, p...)...), "already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout bytes.Buffer
			err := run(c.args, noEnv, &stdout, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, not %q", err, c.want)
			}
			if _, err := os.Stat(out); err == nil || stdout.Len() > 0 {
				t.Errorf("it left an archive, or said %q", &stdout)
			}
		})
	}
	env := func(string) (string, bool) { return "yesterday", true }
	if err := run(append(named, p...), env, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("with SOURCE_DATE_EPOCH=yesterday: %v", err)
	}
}

// unpack unpacks an archive and says where.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(read(t, archive))); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, err)
		write(t, dir, header.Name, string(data))
	}
	var version struct {
		ImageLayoutVersion string `json:"imageLayoutVersion"`
	}
	must(t, json.Unmarshal(read(t, filepath.Join(dir, "oci-layout")), &version))
	if version.ImageLayoutVersion != "1.0.0" {
		t.Errorf("the layout's version is %q", version.ImageLayoutVersion)
	}
	return dir
}
