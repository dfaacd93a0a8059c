package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
)

// ErrNoPod says that a volume is claimed for a Pod that this node does not have.
var ErrNoPod = errors.New("the API server has no Pod with this UID on this node")

// ErrOtherPod says that a Pod is another than the one that is meant.
var ErrOtherPod = errors.New("the API server has another Pod: namespace, name and UID are not of one Pod on this node")

// errUnseen is for a Pod that exists and is not known: see Cluster.ConfirmGone.
var errUnseen = errors.New("the API server has the Pod but the watch does not show it yet; its volume stays")

// lookForPod is for a claimed volume whose Pod is not known, which may be a watch that
// has lost it. What a kubelet has claimed it gives back itself, and other volumes go
// in the end; who waits for a first publication must not wait for ever.
func (p *Projector) lookForPod(ctx context.Context, key Key) (again time.Time, err error) {
	c, _ := p.claimOf(key)
	published, err := p.medium.present(c.path)
	if err != nil {
		return time.Time{}, err
	}
	if published && !c.csi {
		return p.removeIfConfirmed(ctx, key)
	}
	if wait := p.settling(key); !wait.IsZero() {
		return wait, errNoVerdict
	}
	gone, err := p.cfg.Cluster.ConfirmGone(ctx, p.podRef(key))
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("asking whether the Pod exists: %w", err)
	case !gone && p.cfg.Cluster.Pod(key.PodUID) != nil:
		return time.Now(), errNoVerdict // it is known now, if only by what was just asked
	case !gone:
		return time.Time{}, errUnseen
	}
	p.rest(key, nil)
	if !published {
		p.abandon(key) // who waits is told, and the next pass forgets it
		return time.Time{}, ErrNoPod
	}
	return time.Now().Add(checkInterval), errNoVerdict
}

// leftAlone ends a pass over a volume that is not to be served: what is published
// stays, and who waits for a first publication is told that there will be none.
func (p *Projector) leftAlone(key Key, pod *corev1.Pod) error {
	c, claimed := p.claimOf(key)
	if !claimed {
		return errNoVerdict
	}
	set, err := p.medium.read(c.path, atomicdir.New(c.path))
	switch {
	case err != nil:
		return fmt.Errorf("reading what is published: %w", err)
	case set.Generation == "":
		return ErrTerminating
	}
	p.track(key, pod, c.path)
	p.noteAdopted(key, set)
	return errLeftAlone
}

// errLeftAlone ends the wait for a volume that is published and stays as it is. For
// nobody it is a failure.
var errLeftAlone = fmt.Errorf("%w: the volume stays as it is", errNoVerdict)

// ErrTerminating says that a volume is claimed for a Pod that ends, or has ended,
// before it was published.
var ErrTerminating = errors.New("the Pod is terminating or has ended, and gets no first publication")

// ErrDeclaration marks what is wrong with the Pod's spec, as the API server has it.
var ErrDeclaration = errors.New("the Pod's spec")

// declared finds what a Pod declares: of a claim for the CSI driver, an inline volume.
// That there is none is an error for who claims it.
func (p *Projector) declared(pod *corev1.Pod, key Key, c claim, claimed bool) (v payload.Volume, ok bool, err error) {
	what := "projected volume with a token among its sources, mounted by a container,"
	if c.csi {
		what = "volume of " + p.cfg.CSIDriver
		v, ok, err = payload.FindCSI(pod, key.Volume, p.cfg.CSIDriver)
	} else {
		v, ok = payload.Find(pod, key.Volume)
	}
	if claimed && !ok {
		err = fmt.Errorf("it declares no %s with this name", what)
	}
	if err != nil {
		err = fmt.Errorf("%w: volume %q: %w", ErrDeclaration, key.Volume, err)
	}
	return v, ok, err
}
