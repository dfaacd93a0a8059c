package projector

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/internal/logonce"
	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
)

// volume is what is known of one volume. Guarded by Projector.mu; made by
// track, or by note for a volume whose Pod is not known.
type volume struct {
	namespace, pod, path string
	dir                  *atomicdir.Dir
	mountPoints          []string // of other volumes in it
	foreign              []string // names in it that are not the writer's
	generation           string
	has                  contents  // of that generation, once a pass has published
	space                int64     // that its files take, or are about to; see spaceOf
	adopted              bool      // the disk has been read
	announced            bool      // its Pod's end was seen
	missingSince         time.Time // its Pod has not been known; zero while it is
	heldSince            time.Time // see hold
	goneSince            time.Time // its Pod is gone for certain; see gone
	leftover             bool      // of an earlier process, in which somebody may have published it
	served               bool      // a pass has got as far as publishing
	due                  time.Time
	problem              string // of the last pass
	held                 bool   // the problem is hold's
	reported             string // the problem that was logged
	since                time.Time
	failingSince         time.Time
}

func (v *volume) phase() Phase {
	switch {
	case v.generation == "":
		return PhasePending
	case v.problem != "":
		return PhaseDegraded
	}
	return PhaseReady
}

// entryLocked finds or makes a volume's entry.
func (p *Projector) entryLocked(key Key) *volume {
	v, ok := p.volumes[key]
	if !ok {
		v = &volume{since: time.Now()}
		p.volumes[key] = v
	}
	return v
}

// track records a volume and its Pod, and returns its writer.
func (p *Projector) track(key Key, pod *corev1.Pod, path string) *atomicdir.Dir {
	points := payload.MountPoints(pod, key.Volume)
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.entryLocked(key)
	// An ephemeral container may have come, with mounts of its own.
	if v.dir == nil || !slices.Equal(v.mountPoints, points) {
		v.dir, v.mountPoints = p.newDir(path, pod, points), points
	}
	v.namespace, v.pod, v.path = pod.Namespace, pod.Name, path
	v.announced, v.missingSince, v.goneSince = pod.DeletionTimestamp != nil, time.Time{}, time.Time{}
	// What is written for the Pod's own sake nobody has to publish.
	v.leftover = v.leftover && !p.cfg.Chooses(pod)
	return v.dir
}

// adopted says whether the disk has been read, and what is published.
func (p *Projector) adopted(key Key) (generation string, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.entryLocked(key)
	return v.generation, v.adopted
}

// reserve takes note of the space that a volume's files are about to take, or says
// why that is too much for all volumes together.
func (p *Projector) reserve(key Key, space int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.entryLocked(key)
	others := -v.space
	for _, other := range p.volumes {
		others += other.space
	}
	// What does not grow is never refused: tokens must rotate.
	if limit := p.cfg.TotalSizeLimit; limit > 0 && space > v.space && others+space > limit {
		return fmt.Errorf("%w: the volume's files take %d bytes, and those of all others %d, of at most %d; "+
			"select fewer Pods, or raise the limit (--total-size-limit)", ErrFull, space, others, limit)
	}
	v.space = space
	return nil
}

func (p *Projector) noteAdopted(key Key, set atomicdir.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.entryLocked(key)
	v.adopted, v.generation, v.space = true, set.Generation, spaceOf(set.Files)
}

// noteResult records what a publish did.
func (p *Projector) noteResult(key Key, result atomicdir.Result, life tokenLife, has contents) {
	p.mu.Lock()
	v := p.entryLocked(key)
	message := "wrote volume anew"
	switch {
	case v.generation == "":
		message = "published volume"
	case !v.served:
		message = "adopted volume"
	}
	report := result.Changed || !v.served
	if v.generation != "" && !v.served {
		p.stats.Adopted++
	}
	v.due, v.generation, v.served, v.has = life.due, result.Generation, true, has
	if result.Changed {
		p.stats.Published++
	}
	p.order.set(key, life.deadline)
	path := v.path
	foreign := !slices.Equal(v.foreign, result.Foreign)
	v.foreign = result.Foreign
	p.mu.Unlock()
	if foreign {
		p.logger(key).Info("names in the volume that are not ours have changed; they are left alone", "names", result.Foreign)
	}
	if report {
		p.logger(key).Info(message, "generation", result.Generation, "changed", result.Changed, "next_rotation", life.due, "path", path)
	}
}

// note records how a pass ended and logs a problem once, when it changes.
func (p *Projector) note(key Key, err error) {
	p.mu.Lock()
	if err != nil {
		p.stats.Failed++
	}
	if _, ok := p.volumes[key]; !ok && err == nil {
		p.mu.Unlock()
		return // it was removed
	}
	v := p.entryLocked(key)
	v.problem, v.held = "", errors.Is(err, errHeld)
	if !v.held {
		v.heldSince = time.Time{}
	}
	if err != nil {
		v.problem = err.Error()
		v.failingSince = earliest(v.failingSince, time.Now())
	} else {
		v.failingSince = time.Time{}
	}
	report := !logonce.Same(v.problem, v.reported)
	if errors.Is(err, ErrCatchingUp) && time.Since(v.since) < catchUpTime || v.held {
		report = false // that volumes are held is logged once for all
	}
	if report {
		v.reported = v.problem
	}
	phase := v.phase()
	p.mu.Unlock()

	switch {
	case report && err != nil:
		p.cfg.Cluster.Event(p.podRef(key), problemEvent(key, phase, err))
		p.logger(key).Warn("volume has a problem and is tried again", "phase", phase, "error", err)
	case err != nil:
		p.logger(key).Debug("volume still has its problem", "phase", phase, "error", err)
	case report:
		p.cfg.Cluster.Event(p.podRef(key), recoveredEvent(key))
		p.logger(key).Info("volume has recovered", "phase", phase)
	}
}

// podRef is what is known of a volume's Pod.
func (p *Projector) podRef(key Key) PodRef {
	p.mu.Lock()
	defer p.mu.Unlock()
	ref := PodRef{UID: key.PodUID}
	if v, ok := p.volumes[key]; ok {
		ref.Namespace, ref.Name = v.namespace, v.pod
	}
	return ref
}

// forget drops a volume that is no longer wanted, and the Pod's tokens with its
// last one. existed says that there was something on disk.
func (p *Projector) forget(key Key, existed bool) {
	logger := p.logger(key)
	p.mu.Lock()
	delete(p.volumes, key)
	last := true
	for other := range p.volumes {
		last = last && other.PodUID != key.PodUID
	}
	if existed {
		p.stats.Removed++
	}
	p.mu.Unlock()
	p.order.set(key, time.Time{})
	p.cfg.Cluster.Release(key)
	if last {
		p.cfg.Tokens.ForgetPod(string(key.PodUID))
	}
	if existed {
		logger.Info("removed volume")
	}
}

// rest ends what is done for a volume that is left as it is until its Pod is
// gone: nobody would be served by it any more.
func (p *Projector) rest(key Key, pod *corev1.Pod) {
	p.mu.Lock()
	if v, ok := p.volumes[key]; ok {
		v.due = time.Time{}
	}
	p.mu.Unlock()
	p.order.set(key, time.Time{})
	p.cfg.Cluster.Release(key)
	if pod == nil || pod.DeletionTimestamp != nil { // else other volumes of the Pod go on
		p.cfg.Tokens.ForgetPod(string(key.PodUID))
	}
}

// logger names the volume in each line.
func (p *Projector) logger(key Key) *slog.Logger {
	ref := p.podRef(key)
	return p.cfg.Logger.With("namespace", ref.Namespace, "pod", ref.Name, "pod_uid", key.PodUID, "volume", key.Volume)
}
