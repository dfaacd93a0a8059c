package projector

import (
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
)

// adopt returns the volume's published generation, "" if there is none. On the
// first pass of this process it reads the volume back and takes over each
// token that answers what its source asks for; a token's age is that of its
// file. A token that can't be taken over is minted anew.
func (p *Projector) adopt(key Key, pod *corev1.Pod, v payload.Volume, dir *atomicdir.Dir, path string) (string, error) {
	if generation, known := p.adopted(key); known {
		return generation, nil
	}
	set, err := p.medium.read(path, dir)
	if err != nil {
		return "", fmt.Errorf("reading what an earlier process left: %w", err)
	}
	for tokenPath, spec := range v.TokenPaths() {
		file, ok := set.File(filepath.Clean(tokenPath))
		if !ok {
			continue
		}
		if err := p.adoptToken(payload.TokenRequest(pod, spec), file); err != nil {
			p.logger(key).Info("a token of an earlier process can't be adopted; asking for a new one",
				"file", tokenPath, "reason", err)
		}
	}
	p.noteAdopted(key, set)
	return set.Generation, nil
}

func (p *Projector) adoptToken(r rotation.Request, file atomicdir.File) error {
	grant, err := rotation.ReadGrant(rotation.NewToken(string(file.Data)), file.ModTime)
	if err != nil {
		return err
	}
	return p.cfg.Tokens.Adopt(r, grant)
}

// nodeOf is the UID of the Node that the first token in a volume names, empty if
// there is none.
func (p *Projector) nodeOf(path string) (string, error) {
	set, err := p.medium.read(path, atomicdir.New(path))
	if err != nil {
		return "", fmt.Errorf("reading what is published: %w", err)
	}
	for _, f := range set.Files {
		if claims, err := rotation.ParseClaims(string(f.Data)); err == nil && claims.Node.UID != "" {
			return claims.Node.UID, nil
		}
	}
	return "", nil
}
