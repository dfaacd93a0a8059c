package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxSize is what one platform's files may need, in bytes.
const maxSize = 25_000_000

// checkLayout checks all of an OCI layout that is unpacked in dir: one name, one
// index of it, and in that an image for each platform. The calls have all names of
// its program, and first the one that is no link.
func checkLayout(t *testing.T, dir string, calls ...call) {
	t.Helper()
	outer, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	manifest, err := outer.IndexManifest()
	must(t, err)
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations[annotationName] == "" || manifest.Manifests[0].Annotations[annotationTag] == "" {
		t.Fatalf("index.json does not give one image one name: %+v", manifest.Manifests)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	must(t, err)
	manifest, err = index.IndexManifest()
	must(t, err)
	checkLabels(t, "index", manifest.Annotations, calls[0].name)
	var archs []string
	for _, m := range manifest.Manifests {
		archs = append(archs, m.Platform.Architecture)
		if m.Platform.OS != "linux" || m.MediaType != types.OCIManifestSchema1 {
			t.Errorf("the index lists %s of %s", m.MediaType, m.Platform)
		}
		img, err := index.Image(m.Digest)
		must(t, err)
		t.Run(m.Platform.Architecture, func(t *testing.T) { checkImage(t, img, m.Platform, calls) })
	}
	if !slices.Equal(archs, []string{"amd64", "arm64"}) {
		t.Errorf("the index lists architectures %q", archs)
	}
}

func checkImage(t *testing.T, img v1.Image, platform *v1.Platform, calls []call) {
	manifest, err := img.Manifest()
	must(t, err)
	checkLabels(t, "manifest", manifest.Annotations, calls[0].name)
	config, err := img.ConfigFile()
	must(t, err)
	checkLabels(t, "config", config.Config.Labels, calls[0].name)
	if config.OS != platform.OS || config.Architecture != platform.Architecture {
		t.Errorf("the config is of %s/%s", config.OS, config.Architecture)
	}
	if config.Config.User != "0:0" || !slices.Equal(config.Config.Entrypoint, []string{"/" + calls[0].name}) {
		t.Errorf("it runs %q as %q", config.Config.Entrypoint, config.Config.User)
	}
	layers, err := img.Layers()
	must(t, err)
	if len(layers) != 1 || len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != types.OCILayer {
		t.Fatalf("its layers are %+v", manifest.Layers)
	}
	files := layerFiles(t, layers[0], config)
	var names, want []string
	for _, f := range files {
		names = append(names, f.header.Name)
	}
	for _, c := range calls {
		want = append(want, c.name)
	}
	if want := append(want, sbomName); !slices.Equal(names, want) {
		t.Fatalf("it has %q, not %q", names, want)
	}
	program, links, bom := files[0], files[1:len(files)-1], files[len(files)-1]
	if program.header.Typeflag != tar.TypeReg || bom.header.Typeflag != tar.TypeReg || bom.header.Mode != 0o644 {
		t.Errorf("the program or the SBOM is a link, or the SBOM's mode is %o", bom.header.Mode)
	}
	for _, f := range links {
		if f.header.Typeflag != tar.TypeLink || f.header.Linkname != program.header.Name || f.header.Mode != program.header.Mode {
			t.Errorf("%s is no other name of the program: %+v", f.header.Name, f.header)
		}
	}
	checkProgram(t, program, machines[platform.Architecture])
	checkSBOM(t, bom.data, program, want)
	if platform.Architecture == runtime.GOARCH {
		checkCalls(t, program, calls)
	}
}

// checkLabels checks labels or annotations, as far as all images have the same.
func checkLabels(t *testing.T, of string, l labels, title string) {
	t.Helper()
	if l[labelTitle] != title || l[labelLicenses] != "Apache-2.0" {
		t.Errorf("%s: title %q, licenses %q", of, l[labelTitle], l[labelLicenses])
	}
	for _, key := range []string{labelVersion, labelRevision, labelCreated} {
		if l[key] == "" {
			t.Errorf("%s: no %s", of, key)
		}
	}
}

type layerFile struct {
	header *tar.Header
	data   []byte
}

// layerFiles are a layer's entries: small enough, all root's, and of the
// image's time.
func layerFiles(t *testing.T, layer v1.Layer, config *v1.ConfigFile) []layerFile {
	t.Helper()
	r, err := layer.Uncompressed()
	must(t, err)
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	must(t, err)
	if len(data) > maxSize {
		t.Errorf("its files need %d bytes, more than %d", len(data), maxSize)
	}
	var files []layerFile
	for archive := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		if header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Gname != "" {
			t.Errorf("%s is not root's: %+v", header.Name, header)
		}
		if !header.ModTime.Equal(config.Created.Time) {
			t.Errorf("%s is of %s, the image of %s", header.Name, header.ModTime, config.Created)
		}
		content, err := io.ReadAll(archive)
		must(t, err)
		files = append(files, layerFile{header, content})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
