package projector

import (
	"errors"
	"time"
)

// ErrCatchingUp marks, in an error of a Cluster or a Minter, what is to be
// expected for a moment after a Pod was made: the API server's caches have not
// seen it yet. It is retried like any error, and reported only if it lasts.
var ErrCatchingUp = errors.New("the API server knows of no Pod on this node that needs this; of a new Pod it learns in a moment")

// RetryAfter is for how long an error of a Cluster or a Minter asks to be left
// alone, by a method RetryAfter() time.Duration, and whether it does.
func RetryAfter(err error) (after time.Duration, asked bool) {
	var asks interface{ RetryAfter() time.Duration }
	if !errors.As(err, &asks) {
		return 0, false
	}
	return asks.RetryAfter(), true
}

// ErrFull marks that all volumes together have reached Config.TotalSizeLimit.
var ErrFull = errors.New("there is no room for it")

// catchUpTime is how long ErrCatchingUp is not reported.
const catchUpTime = 10 * time.Second

// Phase is the state of a volume.
type Phase string

// The phases.
const (
	// PhasePending: not published yet.
	PhasePending Phase = "Pending"
	// PhaseReady: published and current.
	PhaseReady Phase = "Ready"
	// PhaseDegraded: published, but a source fails and its last good content
	// is served.
	PhaseDegraded Phase = "Degraded"
)

// VolumeStatus is what is known of one volume. It never holds a token.
type VolumeStatus struct {
	Key
	Namespace, Pod string
	Path           string
	Phase          Phase
	// Generation is the published generation's name, empty if there is none.
	Generation string
	// NextRotation is when the earliest token is due; zero if unknown.
	NextRotation time.Time
	// Problem is why the volume is not Ready; empty if it is.
	Problem string
	// FailingSince is when the problem began; zero without one.
	FailingSince time.Time
	// Published says that somebody has asked for the volume and not given it back; see
	// Projector.Publish and Projector.Claim.
	Published bool
	// Terminating says that the Pod ends, or is gone.
	Terminating bool
	// Files and Tokens are what is published, in the order of their paths; empty until
	// this process has looked at the volume. They must not be changed.
	Files  []FileStatus
	Tokens []TokenStatus
	// Held says that the Pod is gone and the volume stays for a while, because
	// so many went at once; see Config.MassRemovalHold.
	Held bool
}

// Stats are counts since the process began.
type Stats struct {
	Adopted   uint64 // volumes of an earlier process that were taken over
	Published uint64 // generations written
	Removed   uint64 // volumes removed
	Failed    uint64 // passes that ended with an error
}

// Volumes returns the status of all volumes, in no particular order.
func (p *Projector) Volumes() []VolumeStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]VolumeStatus, 0, len(p.volumes))
	for key, v := range p.volumes {
		out = append(out, p.statusLocked(key, v))
	}
	return out
}

// Volume returns the status of one volume, and whether there is one.
func (p *Projector) Volume(key Key) (VolumeStatus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.volumes[key]
	if !ok {
		return VolumeStatus{}, false
	}
	return p.statusLocked(key, v), true
}

func (p *Projector) statusLocked(key Key, v *volume) VolumeStatus {
	c := p.claims[key]
	return VolumeStatus{
		Key: key, Namespace: v.namespace, Pod: v.pod, Path: v.path, Phase: v.phase(),
		Generation: v.generation, NextRotation: v.due, Problem: v.problem, FailingSince: v.failingSince, Held: v.held,
		Published: c != nil && !c.ending, Terminating: v.announced || !v.missingSince.IsZero() || !v.goneSince.IsZero(),
		Files: v.has.files, Tokens: v.has.tokens,
	}
}

// Stats returns the counts.
func (p *Projector) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}
