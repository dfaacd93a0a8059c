// Package microvm is what a guest that shares no file system with projectord does with
// the content of a volume, in docs/runtimes.md. It does not bring it there.
package microvm

import (
	"io/fs"

	"github.com/token-projector/token-projector/projector/atomicdir"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// Follow writes each content that next returns into a directory, as projectord does:
// who reads there sees a whole old set of files or a whole new one. next is Recv of the
// host's stream, or what reads its messages at the guest's end of a vsock. Follow returns
// its error.
func Follow(directory string, next func() (*api.StreamVolumeContentResponse, error)) error {
	dir := atomicdir.New(directory, atomicdir.WithGrace(atomicdir.DefaultGrace))
	for {
		content, err := next()
		if err != nil {
			return err
		}
		var files []atomicdir.File
		for _, f := range content.GetFiles() {
			file := atomicdir.File{Path: f.GetPath(), Data: f.GetData(), Mode: fs.FileMode(f.GetMode())}
			if f.GetUid() >= 0 || f.GetGid() >= 0 {
				file.Owner = &atomicdir.Owner{UID: int(f.GetUid()), GID: int(f.GetGid())}
			}
			files = append(files, file)
		}
		if _, err := dir.Publish(files); err != nil {
			return err
		}
	}
}
