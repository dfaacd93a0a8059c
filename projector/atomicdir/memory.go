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

// digest is of everything that makes two sets different. Sets with different
// digests are different; for the converse, compare them.
func digest(files []File) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var head [40]byte
	for _, f := range files {
		owner := Owner{UID: -1, GID: -1}
		if f.Owner != nil {
			owner = *f.Owner
		}
		for i, v := range [...]int{len(f.Path), len(f.Data), int(f.Mode), owner.UID, owner.GID} {
			binary.NativeEndian.PutUint64(head[8*i:], uint64(v))
		}
		_, _ = h.Write(head[:])
		_, _ = h.WriteString(f.Path)
		_, _ = h.Write(f.Data)
	}
	return h.Sum64() | 1 // never 0
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
