package atomicdir

import (
	"encoding/binary"
	"hash/maphash"
	"time"
)

// memory is what a Dir remembers between calls, to save work. It may be wrong
// or empty: the disk decides.
type memory struct {
	digest      uint64 // of the set published last; 0: unknown
	synced      string // the generation to which the links are on the disk
	generations []generation
}

// generation is a directory with a published set.
type generation struct {
	name string
	// top are the first elements of its files' paths; nil: unknown.
	top []string
	// retired is when it was first seen not to be the current one.
	retired time.Time
}

// seed keys the digest, so that it says nothing about tokens to whoever sees
// the process's memory, and nobody can choose content with an equal one.
var seed = maphash.MakeSeed()

// sum is the digest of everything that makes two sets different. Sets with
// different digests are different; for the converse, compare them.
func (d *Dir) sum(files []File) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var head [48]byte
	for _, f := range files {
		owner := d.owner(f)
		data := maphash.Bytes(seed, f.Data)
		for i, v := range [...]uint64{
			uint64(len(f.Path)), uint64(len(f.Data)), data, uint64(f.Mode), uint64(owner.UID), uint64(owner.GID),
		} {
			binary.NativeEndian.PutUint64(head[8*i:], v)
		}
		_, _ = h.Write(head[:])
		_, _ = h.WriteString(f.Path)
	}
	return h.Sum64() | 1 // never 0
}

// owner is what a file's owner is to be: a user that is not wanted in
// particular is the process's.
func (d *Dir) owner(f File) Owner {
	owner := Owner{UID: -1, GID: -1}
	if f.Owner != nil {
		owner = *f.Owner
	}
	if owner.UID < 0 {
		owner.UID = d.user
	}
	return owner
}

// known is what is remembered of a generation.
func (m *memory) known(name string) generation {
	for _, g := range m.generations {
		if g.name == name {
			return g
		}
	}
	return generation{name: name}
}
