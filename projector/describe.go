package projector

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
)

// FileStatus is one published file, without what is in it.
type FileStatus struct {
	Path  string // relative to the volume
	Mode  uint32 // permission bits
	Token bool
}

// TokenStatus is one published token, without the token.
type TokenStatus struct {
	Path     string
	Audience string // as the Pod asks for it; empty is the API server's own
	// IssuedAt is by the API server's clock, the others are by this machine's.
	IssuedAt, ExpiresAt, RotateAt time.Time
}

// contents are what is published in a volume.
type contents struct {
	files  []FileStatus
	tokens []TokenStatus
}

// describe takes note of what was published.
func describe(v payload.Volume, in *payload.Inputs, files []atomicdir.File, due map[payload.TokenSpec]time.Time) contents {
	var out contents
	specs := map[string]payload.TokenSpec{}
	for where, spec := range v.TokenPaths() {
		specs[path.Clean(where)] = spec
	}
	for _, f := range files {
		where := path.Clean(f.Path)
		spec, isToken := specs[where]
		out.files = append(out.files, FileStatus{Path: where, Mode: uint32(f.Mode.Perm()), Token: isToken})
		if grant := in.Tokens[spec].Value; isToken && !grant.Token.IsZero() {
			out.tokens = append(out.tokens, TokenStatus{
				Path: where, Audience: spec.Audience,
				IssuedAt: grant.Claims.IssuedAt, ExpiresAt: grant.Deadline(), RotateAt: due[spec],
			})
		}
	}
	slices.SortFunc(out.files, func(a, b FileStatus) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(out.tokens, func(a, b TokenStatus) int { return strings.Compare(a.Path, b.Path) })
	return out
}
