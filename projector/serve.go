package projector

import (
	"errors"
	"fmt"
	"time"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
)

// ErrNoVolume says that nothing is published in a volume, or that there is none.
var ErrNoVolume = errors.New("nothing is published in such a volume")

// Rotate has the tokens of a published volume replaced before they are due, with pace
// from one to the next, and returns how many there are. It does not wait for that.
func (p *Projector) Rotate(key Key, pace time.Duration) (tokens int, err error) {
	pod := p.cfg.Cluster.Pod(key.PodUID)
	status, ok := p.Volume(key)
	if pod == nil || !ok || status.Generation == "" {
		return 0, ErrNoVolume
	}
	c, claimed := p.claimOf(key)
	v, _, err := p.declared(pod, key, c, claimed)
	if err != nil {
		return 0, err
	}
	wanted := map[rotation.Request]bool{}
	for _, spec := range v.TokenPaths() {
		wanted[payload.TokenRequest(pod, spec)] = true
	}
	tokens, _ = p.cfg.Tokens.Rotate(pace, func(r rotation.Request) bool { return wanted[r] })
	return tokens, nil
}

// Content reads what is published in a volume, with the tokens.
func (p *Projector) Content(key Key) (atomicdir.Set, error) {
	status, ok := p.Volume(key)
	if !ok || status.Generation == "" {
		return atomicdir.Set{}, ErrNoVolume
	}
	set, err := p.medium.read(status.Path, atomicdir.New(status.Path))
	if err == nil && set.Generation == "" {
		err = ErrNoVolume
	}
	if err != nil {
		return atomicdir.Set{}, fmt.Errorf("reading volume %q: %w", key.Volume, err)
	}
	return set, nil
}
