// Command image packs static Go programs into a container image FROM scratch,
// without a daemon and without a network: the same programs give the same
// bytes. It builds no programs and pushes nothing.
//
// All programs of one platform go into that platform's image, and the first one
// is its entrypoint. Platform, version and commit are what the Go command
// recorded in them. SOURCE_DATE_EPOCH replaces the commit's time.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

const usage = `usage: image -name NAME -o FILE [flags] PROGRAM...

An image of one static Go program, which is given once for each platform.

`

func main() {
	switch err := run(os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// labels are labels and annotations, given as KEY=VALUE.
type labels map[string]string

func (l labels) String() string { return "" }

func (l labels) Set(s string) error {
	key, value, found := strings.Cut(s, "=")
	if !found || key == "" {
		return errors.New("want KEY=VALUE")
	}
	l[key] = value
	return nil
}

type options struct {
	name, archive, sbomDir, alias string
	labels                        labels
	programs                      []string
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{labels: labels{}}
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		fs.PrintDefaults()
	}
	fs.StringVar(&o.name, "name", "", "the image's full `name`, such as docker.io/library/pause:1")
	fs.StringVar(&o.archive, "o", "", "the `file` to write, an OCI layout in a tar archive")
	fs.StringVar(&o.sbomDir, "sbom", "", "a `directory` for copies of the SBOMs, as sbom-<arch>.cdx.json (default: none)")
	fs.StringVar(&o.alias, "alias", "", "a second `name` for the program, as a hard link (default: none)")
	fs.Var(o.labels, "label", "a label and annotation as `KEY=VALUE`; may be repeated")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.programs = fs.Args()
	if o.archive == "" || len(o.programs) == 0 {
		return nil, errors.New("-o and at least one program are needed: see -help")
	}
	if o.alias == filepath.Base(o.programs[0]) || o.alias == sbomName {
		return nil, fmt.Errorf("-alias: the image has a file %s already", o.alias)
	}
	// Strict: containerd looks names up in full, with registry and tag.
	if _, err := name.NewTag(o.name, name.StrictValidation); err != nil {
		return nil, fmt.Errorf("-name: %w", err)
	}
	return o, nil
}

// run is main without the process around it.
func run(args []string, env func(string) (string, bool), stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	release, err := readRelease(o.programs, env)
	if err != nil {
		return err
	}
	meta := release.labels()
	maps.Copy(meta, o.labels)
	var images []image
	for _, p := range release.programs {
		img, err := build(p, o.alias, release.created, meta)
		if err != nil {
			return fmt.Errorf("building the image for %s: %w", p.platform, err)
		}
		images = append(images, img)
		if o.sbomDir != "" {
			file := filepath.Join(o.sbomDir, "sbom-"+p.platform.Architecture+".cdx.json")
			if err := os.WriteFile(file, img.sbom, 0o644); err != nil {
				return fmt.Errorf("writing the SBOM: %w", err)
			}
		}
	}
	index := newIndex(images, meta)
	if err := writeArchive(o.archive, o.name, index, release.created); err != nil {
		return fmt.Errorf("writing %s: %w", o.archive, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "RESULT image %s digest=%s\n", sizes(images), digest)
	return err
}

// sizes says how large each platform's files are, and how much of the largest
// has to be fetched.
func sizes(images []image) string {
	var b strings.Builder
	var compressed int64
	for _, img := range images {
		fmt.Fprintf(&b, "%s_mib=%.1f ", img.platform.Architecture, mib(img.size))
		compressed = max(compressed, img.compressed)
	}
	fmt.Fprintf(&b, "compressed_mib=%.1f", mib(compressed))
	return b.String()
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
