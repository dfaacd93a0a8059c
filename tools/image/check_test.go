package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxSize is what one platform's files may need, in bytes.
const maxSize = 40_000_000

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkLayout checks all of an OCI layout that is unpacked in dir: one name, one
// index of it, and in that an image for each platform.
func checkLayout(t *testing.T, dir string, programs ...string) {
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
	checkLabels(t, "index", manifest.Annotations, programs[0])
	var archs []string
	for _, m := range manifest.Manifests {
		archs = append(archs, m.Platform.Architecture)
		if m.Platform.OS != "linux" || m.MediaType != types.OCIManifestSchema1 {
			t.Errorf("the index lists %s of %s", m.MediaType, m.Platform)
		}
		img, err := index.Image(m.Digest)
		must(t, err)
		t.Run(m.Platform.Architecture, func(t *testing.T) { checkImage(t, img, m.Platform, programs) })
	}
	if !slices.Equal(archs, []string{"amd64", "arm64"}) {
		t.Errorf("the index lists architectures %q", archs)
	}
}

func checkImage(t *testing.T, img v1.Image, platform *v1.Platform, programs []string) {
	manifest, err := img.Manifest()
	must(t, err)
	checkLabels(t, "manifest", manifest.Annotations, programs[0])
	config, err := img.ConfigFile()
	must(t, err)
	checkLabels(t, "config", config.Config.Labels, programs[0])
	if config.OS != platform.OS || config.Architecture != platform.Architecture {
		t.Errorf("the config is of %s/%s", config.OS, config.Architecture)
	}
	if config.Config.User != "0:0" || !slices.Equal(config.Config.Entrypoint, []string{"/" + programs[0]}) {
		t.Errorf("it runs %q as %q", config.Config.Entrypoint, config.Config.User)
	}
	layers, err := img.Layers()
	must(t, err)
	if len(layers) != 1 || len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != types.OCILayer {
		t.Fatalf("its layers are %+v", manifest.Layers)
	}
	files := layerFiles(t, layers[0], config)
	var names []string
	for _, f := range files {
		names = append(names, f.header.Name)
	}
	if want := append(slices.Clone(programs), sbomName); !slices.Equal(names, want) {
		t.Fatalf("it has %q, not %q", names, want)
	}
	bom := files[len(files)-1]
	if bom.header.Mode != 0o644 {
		t.Errorf("the SBOM's mode is %o", bom.header.Mode)
	}
	for _, f := range files[:len(files)-1] {
		checkProgram(t, f, machines[platform.Architecture])
		checkSBOM(t, bom.data, f)
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
		if header.Typeflag != tar.TypeReg || header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Gname != "" {
			t.Errorf("%s is no file of root: %+v", header.Name, header)
		}
		if !header.ModTime.Equal(config.Created.Time) {
			t.Errorf("%s is of %s, the image of %s", header.Name, header.ModTime, config.Created)
		}
		content, err := io.ReadAll(archive)
		must(t, err)
		files = append(files, layerFile{header, content})
	}
}

func checkProgram(t *testing.T, f layerFile, machine elf.Machine) {
	t.Helper()
	if f.header.Mode != 0o755 {
		t.Errorf("%s has mode %o", f.header.Name, f.header.Mode)
	}
	program, err := elf.NewFile(bytes.NewReader(f.data))
	must(t, err)
	if program.Machine != machine {
		t.Errorf("%s is for %s", f.header.Name, program.Machine)
	}
	if program.Section(".interp") != nil || program.Section(".symtab") != nil || program.Section(".debug_info") != nil {
		t.Errorf("%s is not static and stripped", f.header.Name)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static: it has a %s", f.header.Name, p.Type)
		}
	}
}

// checkSBOM checks that an SBOM has the program, and all that it was linked from.
func checkSBOM(t *testing.T, data []byte, f layerFile) {
	t.Helper()
	var bom cdx.BOM
	must(t, cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom))
	if bom.SerialNumber != "" {
		t.Errorf("the SBOM has the serial number %s", bom.SerialNumber)
	}
	info, err := buildinfo.Read(bytes.NewReader(f.data))
	must(t, err)
	want := map[string]bool{}
	for _, m := range info.Deps {
		want[m.Path+" "+m.Version] = true
	}
	want["stdlib "+info.GoVersion[len("go"):]] = true
	found := false
	for _, c := range *bom.Components {
		delete(want, c.Name+" "+c.Version)
		if c.Name == f.header.Name {
			sum := sha256.Sum256(f.data)
			found = c.Hashes != nil && (*c.Hashes)[0].Value == hex.EncodeToString(sum[:])
		}
	}
	if !found {
		t.Errorf("the SBOM does not have %s with its hash", f.header.Name)
	}
	for module := range want {
		t.Errorf("the SBOM lacks %s, which is in %s", module, f.header.Name)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
