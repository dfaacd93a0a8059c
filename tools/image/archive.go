package main

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Keys under which an archive names its image.
const (
	// annotationName is where containerd and podman look for a whole name.
	annotationName = "io.containerd.image.name"
	// annotationTag is the OCI image spec's, for the tag alone.
	annotationTag = "org.opencontainers.image.ref.name"
)

// writeArchive writes the image under a name, as an OCI layout in a tar archive.
func writeArchive(file, imageName string, index v1.ImageIndex, created time.Time) (err error) {
	tag, err := name.NewTag(imageName, name.StrictValidation)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	named := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index, Descriptor: v1.Descriptor{
		Annotations: map[string]string{annotationName: imageName, annotationTag: tag.TagStr()},
	}})
	if _, err := layout.Write(dir, named); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return archive(f, os.DirFS(dir), created)
}

// archive writes the files of a tree, sorted. Directories need no entry: who
// unpacks makes them.
func archive(f *os.File, tree fs.FS, created time.Time) error {
	w := tar.NewWriter(f)
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		return add(w, path, 0o644, data, created)
	})
	return errors.Join(err, w.Close())
}
