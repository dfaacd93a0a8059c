package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Keys of the OCI image spec (annotations.md), used for labels as well.
const (
	labelTitle    = "org.opencontainers.image.title"
	labelVersion  = "org.opencontainers.image.version"
	labelRevision = "org.opencontainers.image.revision"
	labelCreated  = "org.opencontainers.image.created"
	labelLicenses = "org.opencontainers.image.licenses"
)

const sbomName = "sbom.cdx.json"

// image is what one platform runs.
type image struct {
	v1.Image
	platform         v1.Platform
	sbom             []byte
	size, compressed int64 // bytes of its one layer
}

// build makes one platform's image: a program, which may have a second name, and
// its SBOM.
func build(p program, alias string, created time.Time, meta labels) (image, error) {
	bom, err := sbom(p, alias, created, meta)
	if err != nil {
		return image{}, err
	}
	files, err := pack(p, alias, bom, created)
	if err != nil {
		return image{}, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
	if err != nil {
		return image{}, err
	}
	compressed, err := layer.Size()
	if err != nil {
		return image{}, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, config(p, created, meta))
	if err != nil {
		return image{}, err
	}
	img, err = mutate.Append(img, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "tools/image"},
	})
	if err != nil {
		return image{}, err
	}
	img = mutate.Annotations(img, meta).(v1.Image)
	return image{Image: img, platform: p.platform, sbom: bom, size: int64(len(files)), compressed: compressed}, nil
}

// config is how the image runs.
func config(p program, created time.Time, meta labels) *v1.ConfigFile {
	return &v1.ConfigFile{
		Architecture: p.platform.Architecture,
		OS:           p.platform.OS,
		Created:      v1.Time{Time: created},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/" + p.name},
			// `kubectl exec` finds the program by its names alone.
			Env: []string{"PATH=/"},
			// projectord writes below directories of the host that are root's, and
			// gives files to the Pods' users: as another user it would need more
			// capabilities for that, not fewer. What else root may do is taken away
			// where the image runs, by dropping capabilities.
			User:   "0:0",
			Labels: meta,
		},
	}
}

// pack puts the files into a tar archive: all of root, and nobody else may write.
func pack(p program, alias string, bom []byte, created time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := add(w, p.name, 0o755, p.data, created); err != nil {
		return nil, err
	}
	if alias != "" {
		// No symbolic link: who copies one out of an image may get no program.
		header := newHeader(alias, 0o755, created)
		header.Typeflag, header.Linkname = tar.TypeLink, p.name
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	if err := add(w, sbomName, 0o644, bom, created); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// newHeader says nothing of who builds, or when.
func newHeader(name string, mode int64, created time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, ModTime: created, Format: tar.FormatUSTAR}
}

// add writes one file.
func add(w *tar.Writer, name string, mode int64, data []byte, created time.Time) error {
	header := newHeader(name, mode, created)
	header.Size = int64(len(data))
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// newIndex is one name for the images of all platforms.
func newIndex(images []image, meta labels) v1.ImageIndex {
	var manifests []mutate.IndexAddendum
	for _, img := range images {
		manifests = append(manifests, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &img.platform}})
	}
	return mutate.Annotations(mutate.AppendManifests(empty.Index, manifests...), meta).(v1.ImageIndex)
}
