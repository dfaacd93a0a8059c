package projector

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Deleted has the volumes of a Pod looked at whose deletion the API server has
// told. It is Enqueue for a Pod that is gone: one that merely is no longer in a
// list may be missing for another reason. It does not block.
func (p *Projector) Deleted(pod *corev1.Pod) {
	p.mu.Lock()
	for key, v := range p.volumes {
		if key.PodUID == pod.UID {
			v.announced = true
		}
	}
	p.mu.Unlock()
	p.Enqueue(pod)
}

// massLeast and massPart say when Pods that are missing, without a deletion
// having been seen, are so many that the cluster itself may be the wrong one: at
// least so many volumes, and at least this part of all.
const (
	massLeast = 5
	massPart  = 0.5
)

// errHeld says that a volume stays though its Pod is gone.
var errHeld = errors.New("held")

// hold says why a volume whose Pod is gone is not removed yet: an API server
// that was restored from a backup, or that is of another cluster, has no Pod of
// this node, and says so with the same certainty. A Pod whose deletion was seen
// is not held.
func (p *Projector) hold(key Key) error {
	if p.cfg.MassRemovalHold == 0 || p.announced(key) {
		return nil
	}
	missing, total := p.missing()
	reason := ""
	switch foreign, err := p.ofAnotherNode(key); {
	case err != nil:
		return err
	case foreign:
		reason = "its token is of a Node with another UID"
	case missing >= massLeast && float64(missing) >= massPart*float64(total):
		reason = fmt.Sprintf("the Pods of %d of %d volumes are missing, and the deletion of none of them was seen", missing, total)
	}
	if reason == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v, now := p.entryLocked(key), time.Now()
	first := true
	for _, other := range p.volumes {
		first = first && !other.held
	}
	v.held, v.heldSince = true, earliest(v.heldSince, now)
	until := v.heldSince.Add(p.cfg.MassRemovalHold)
	if first {
		p.cfg.Logger.Warn("volumes are held: is the API server of another cluster, or restored from a backup?",
			"reason", reason, "until", until)
	}
	if now.Before(until) {
		return fmt.Errorf("%w until %s: %s", errHeld, until.UTC().Format(time.RFC3339), reason)
	}
	return nil
}

// settleTime is how long a Pod must be missing whose end was not seen, before
// its volume is decided upon: of many that go at once, each event comes by itself.
const settleTime = 2 * time.Second

// settling says until when to wait; zero is not at all.
func (p *Projector) settling(key Key) time.Time {
	if p.announced(key) {
		return time.Time{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v, now := p.entryLocked(key), time.Now()
	v.missingSince = earliest(v.missingSince, now)
	if until := v.missingSince.Add(settleTime); now.Before(until) {
		return until
	}
	return time.Time{}
}

// gone takes note that a volume's Pod is gone for certain, and says until when the
// volume stays all the same: whoever published it may have a workload that still runs.
// Of what an earlier process left nobody knows whether it was published.
func (p *Projector) gone(key Key) (until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.entryLocked(key)
	v.goneSince = earliest(v.goneSince, time.Now())
	if p.claims[key] == nil && !v.leftover {
		return v.goneSince
	}
	return v.goneSince.Add(p.cfg.GoneGrace)
}

// announced says whether it was seen that the volume's Pod ends.
func (p *Projector) announced(key Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.volumes[key]
	return ok && v.announced
}

// missing counts the volumes whose Pods are not known though no end of them was
// seen, and all volumes.
func (p *Projector) missing() (missing, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, v := range p.volumes {
		if c := p.claims[key]; (c == nil || !c.csi) && !v.announced && p.cfg.Cluster.Pod(key.PodUID) == nil {
			missing++
		}
	}
	return missing, len(p.volumes)
}

// ofAnotherNode says whether a volume's tokens name a Node with another UID than
// this one has: the cluster is another, or the Node was registered anew.
func (p *Projector) ofAnotherNode(key Key) (bool, error) {
	uid := p.cfg.Cluster.NodeUID()
	path, err := p.path(key)
	if err != nil || uid == "" {
		return false, err
	}
	of, err := p.nodeOf(path)
	return of != "" && of != uid, err
}
