package projector

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
)

// checkInterval is how often a volume is looked at without a reason: what others
// have done to it is put right then.
const checkInterval = 5 * time.Minute

// reconcile makes one pass over one volume:
//
//  1. Is it still wanted? If not, and that is certain, remove it and forget it.
//  2. On the first pass, adopt what an earlier process left on disk.
//  3. Fetch what its sources need: current tokens and API objects.
//  4. Build its files. The first publication needs every source; later, what a
//     failing source published before stays, and the others go on.
//  5. Look again: fetching took time, and the Pod may have gone meanwhile.
//  6. Publish.
//  7. Come back when its earliest token is due, or an old generation's grace
//     ends, and now and then for what others may have done.
//
// again is when to come back without an event; zero is never. With an error
// the volume is tried again after a backoff too. errNoVerdict is no failure: the
// pass says nothing of whether the volume is well.
func (p *Projector) reconcile(ctx context.Context, key Key) (again time.Time, err error) {
	verdict, pod, v, err := p.judge(key) // 1
	if err != nil {
		return time.Time{}, err
	}
	switch verdict {
	case unknown:
		return p.removeIfConfirmed(ctx, key)
	case finished:
		return time.Time{}, p.remove(key)
	case leave:
		p.rest(key, pod)
		return time.Time{}, p.leftAlone(key, pod)
	case awaited:
		return p.lookForPod(ctx, key)
	}

	path, err := p.path(key)
	if err != nil {
		return time.Time{}, err
	}
	dir := p.track(key, pod, path)
	generation, err := p.adopt(key, pod, v, dir, path) // 2
	if err != nil {
		return time.Time{}, err
	}
	if begins, err := p.begins(key, pod, generation); !begins {
		return time.Time{}, err
	}

	in, life, stale := p.fetch(ctx, key, pod, v) // 3
	if generation != "" {
		p.order.set(key, life.deadline)
	}

	files, failed := v.Build(in) // 4
	if len(failed) > 0 {
		files, err = p.keepUnclaimed(files, path, dir)
		if err != nil {
			return time.Time{}, errors.Join(sourcesError(failed), err)
		}
	}

	p.keepOwners(files)
	if now, _, _, err := p.judge(key); now != serve || err != nil { // 5
		return time.Now(), errNoVerdict
	}

	files, unfit, err := p.fit(key, files, v, path, dir)
	if err != nil {
		return time.Time{}, err
	}
	stale = errors.Join(stale, unfit)

	if err := p.medium.prepare(path); err != nil { // 6
		return time.Time{}, err
	}
	result, err := dir.Publish(files)
	if err == nil || result.Changed {
		p.noteResult(key, result, life, describe(v, in, files, life.each))
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("publishing: %w", err)
	}
	check := time.Now().Add(checkInterval/2 + rand.N(checkInterval/2)) // 7
	return earliest(earliest(life.due, result.SweepAt), check), errors.Join(sourcesError(failed), stale)
}

// keepOwners leaves files to this process's user, if it may not give them away.
func (p *Projector) keepOwners(files []atomicdir.File) {
	for i := range files {
		if p.cfg.KeepOwners {
			files[i].Owner = nil
		}
	}
}

// begins says whether a volume may go on, or be published for the first time: what
// it has is kept current, but a Pod that ends, or is not chosen, gets nothing new.
func (p *Projector) begins(key Key, pod *corev1.Pod, generation string) (bool, error) {
	_, claimed := p.claimOf(key)
	switch {
	case generation != "":
	case claimed && pod.DeletionTimestamp != nil:
		return false, ErrTerminating
	case !claimed && (pod.DeletionTimestamp != nil || !p.cfg.Chooses(pod)):
		p.forget(key, false)
		return false, nil
	}
	return true, nil
}

// errNoVerdict marks the end of a pass that found out nothing of how a volume is.
var errNoVerdict = errors.New("the pass has no result")

// earliest is the earlier of two moments that may be zero, for never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// verdict says what is to be done about a volume.
type verdict int

const (
	// serve: publish it and keep it current.
	serve verdict = iota
	// leave it as it is, until its Pod is gone.
	leave
	// finished: no longer wanted, for certain.
	finished
	// unknown: its Pod is not known, which may be a lagging watch.
	unknown
	// awaited: the same for a claimed volume, which somebody may be waiting for.
	awaited
)

// tokensDieAfter is how long after a Pod's deletionTimestamp, which includes
// the grace period, the API server still accepts its tokens
// (pkg/serviceaccount/claims.go). It mints later ones, but refuses them.
const tokensDieAfter = 60 * time.Second

// judge gives the verdict on a volume by what is known of its Pod.
func (p *Projector) judge(key Key) (verdict, *corev1.Pod, payload.Volume, error) {
	c, claimed := p.claimOf(key)
	pod := p.cfg.Cluster.Pod(key.PodUID)
	switch {
	case claimed && c.ending:
		return finished, pod, payload.Volume{}, nil
	case pod == nil && claimed:
		return awaited, nil, payload.Volume{}, nil
	case pod == nil:
		return unknown, nil, payload.Volume{}, nil
	}
	v, declared, err := p.declared(pod, key, c, claimed)
	if err != nil {
		return leave, pod, v, err
	}
	final := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	switch {
	// These phases are final, so even an old event of one is proof enough.
	case final && !claimed:
		return finished, pod, v, nil
	// Not ours, or no token for it would be accepted any more.
	case !declared, final, pod.DeletionTimestamp != nil && p.serverTime().Sub(pod.DeletionTimestamp.Time) > tokensDieAfter:
		return leave, pod, v, nil
	}
	return serve, pod, v, nil
}

// serverTime is the API server's, as far as it is known.
func (p *Projector) serverTime() time.Time {
	if now, known := p.cfg.Cluster.ServerTime(); known {
		return now
	}
	return time.Now()
}

// errNothingPublished says why a volume waits: what there is of it is not
// enough for a beginning.
var errNothingPublished = errors.New("the first publication needs every source")

// keepUnclaimed adds what is published at paths that no source gave a file
// for: an old valid credential beats no credential.
func (p *Projector) keepUnclaimed(files []atomicdir.File, where string, dir *atomicdir.Dir) ([]atomicdir.File, error) {
	set, err := p.medium.read(where, dir)
	if err != nil {
		return nil, fmt.Errorf("reading what is published: %w", err)
	}
	if set.Generation == "" {
		return nil, errNothingPublished
	}
	claimed := make(map[string]bool, len(files))
	for _, f := range files {
		claimed[path.Clean(f.Path)] = true
	}
	for _, f := range set.Files {
		if !claimed[f.Path] {
			// As its source would give it: the group is the volume's, and what is
			// no permission bit was not ours.
			f.Owner.GID, f.Mode = -1, f.Mode.Perm()
			files = append(files, f)
		}
	}
	return files, nil
}

// fit returns the files that there is room for: all or, with unfit as the reason,
// the tokens.
func (p *Projector) fit(key Key, files []atomicdir.File, v payload.Volume, where string, dir *atomicdir.Dir) (fitting []atomicdir.File, unfit, err error) {
	unfit = p.medium.fits(where, files)
	if unfit == nil {
		unfit = p.reserve(key, spaceOf(files))
	}
	if unfit != nil {
		files, err = p.tokensOnly(unfit, files, v, where, dir)
	}
	return files, unfit, err
}

// tokensOnly is for files of which some have grown too large, or are in the way
// of others, as unfit says: the tokens, and for all else what is published. Tokens
// must not lapse for it.
func (p *Projector) tokensOnly(unfit error, files []atomicdir.File, v payload.Volume, where string, dir *atomicdir.Dir) ([]atomicdir.File, error) {
	tokens := v.TokenPaths()
	files = slices.DeleteFunc(files, func(f atomicdir.File) bool { _, ok := tokens[f.Path]; return !ok })
	files, err := p.keepUnclaimed(files, where, dir)
	switch {
	case errors.Is(err, errNothingPublished):
		return nil, unfit
	case err != nil:
		return nil, errors.Join(unfit, err)
	}
	return files, nil
}

// sourcesError joins the errors of a volume's sources.
func sourcesError(failed []*payload.SourceError) error {
	errs := make([]error, len(failed))
	for i, f := range failed {
		errs[i] = f
	}
	return errors.Join(errs...)
}
