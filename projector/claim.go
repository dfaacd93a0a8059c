package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/payload"
)

// claim is a volume that somebody else asks for, and gives back: a kubelet, of a
// CSI driver. Guarded by Projector.mu.
type claim struct {
	path    string
	ending  bool          // it was given back
	err     error         // of the last pass, as far as it may not go by itself
	changed chan struct{} // closed after each pass
}

// Claim has the volume that a Pod declares for the CSI driver Config.CSIDriver
// served at path, until Unclaim: a tmpfs is mounted on path itself. Unlike other
// volumes it is nobody's choice here, and is not removed when its Pod is gone. It
// does not block, and nothing is checked yet; see Await.
func (p *Projector) Claim(key Key, path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claimLocked(key, path, false)
}

func (p *Projector) claimLocked(key Key, path string, ending bool) {
	c, ok := p.claims[key]
	if !ok {
		c = &claim{changed: make(chan struct{})}
		p.claims[key] = c
	}
	c.path, c.ending, c.err = path, ending, nil
	p.entryLocked(key)
	p.addLocked(key)
}

// ErrNotClaimed says that nobody has claimed a volume.
var ErrNotClaimed = errors.New("the volume is not claimed")

// Await waits until a claimed volume is published. It returns the error of a pass
// that only a change of the Pod, of another object or of permissions can help, and
// ctx's when that ends; the work goes on in both cases.
func (p *Projector) Await(ctx context.Context, key Key) error {
	return p.follow(ctx, key, func(c *claim) (bool, error) {
		v := p.volumes[key]
		return c.err != nil || v != nil && v.served, c.err
	})
}

// Unclaim gives a volume back, and waits until nothing is mounted at path and its
// directory is gone, whether it was claimed or not.
func (p *Projector) Unclaim(ctx context.Context, key Key, path string) error {
	p.mu.Lock()
	p.claimLocked(key, path, true)
	p.mu.Unlock()
	err := p.follow(ctx, key, func(c *claim) (bool, error) { return c.err != nil, c.err })
	if errors.Is(err, ErrNotClaimed) {
		return nil
	}
	return err
}

// Release is Unclaim where no Projector works on the volume.
func Release(path string) error {
	_, err := medium{}.release(path)
	return err
}

// follow waits until done says so after a pass, or the claim is gone. done is
// called with the lock held.
func (p *Projector) follow(ctx context.Context, key Key, done func(*claim) (bool, error)) error {
	for {
		p.mu.Lock()
		c, ok := p.claims[key]
		if !ok {
			p.mu.Unlock()
			return ErrNotClaimed
		}
		ended, err := done(c)
		changed := c.changed
		p.mu.Unlock()
		if ended {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claimOf returns a copy of a volume's claim.
func (p *Projector) claimOf(key Key) (claim, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.claims[key]; ok {
		return *c, true
	}
	return claim{}, false
}

// noteClaim tells who waits for a claimed volume how a pass has ended.
func (p *Projector) noteClaim(key Key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.claims[key]
	if !ok {
		return
	}
	c.err = nil
	if !errors.Is(err, ErrCatchingUp) && !errors.Is(err, errNoVerdict) {
		c.err = err
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// dropClaim forgets a claim whose volume is gone.
func (p *Projector) dropClaim(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.claims[key]; ok && c.ending { // else it was claimed again meanwhile
		delete(p.claims, key)
		close(c.changed)
	}
}

// ErrNoPod says that a volume is claimed for a Pod that this node does not have.
var ErrNoPod = errors.New("the API server has no Pod with this UID on this node")

// lookForPod is for a claimed volume whose Pod is not known: what is published
// stays, but who waits for a first publication must not wait for ever.
func (p *Projector) lookForPod(ctx context.Context, key Key) (again time.Time, err error) {
	path, err := p.path(key)
	if err != nil {
		return time.Time{}, err
	}
	switch published, err := p.medium.present(path); {
	case err != nil:
		return time.Time{}, err
	case published:
		return time.Time{}, errNoVerdict
	}
	if wait := p.settling(key); !wait.IsZero() {
		return wait, errNoVerdict
	}
	gone, err := p.cfg.Cluster.ConfirmGone(ctx, p.podRef(key))
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("asking whether the Pod exists: %w", err)
	case gone:
		return time.Time{}, ErrNoPod
	}
	return time.Now(), errNoVerdict // it is known now, if only by what was just asked
}

// ErrTerminating says that a volume is claimed for a Pod that ends before it was
// published.
var ErrTerminating = errors.New("the Pod is terminating, and gets no first publication")

// ErrDeclaration marks what is wrong with the Pod's spec, as the API server has it.
var ErrDeclaration = errors.New("the Pod's spec")

// declared finds what a Pod declares: of a claimed volume, for the CSI driver.
func (p *Projector) declared(pod *corev1.Pod, key Key, claimed bool) (payload.Volume, bool, error) {
	if !claimed {
		v, ok := payload.Find(pod, key.Volume)
		return v, ok, nil
	}
	v, ok, err := payload.FindCSI(pod, key.Volume, p.cfg.CSIDriver)
	if !ok {
		err = fmt.Errorf("it declares no volume of %s with this name", p.cfg.CSIDriver)
	}
	if err != nil {
		err = fmt.Errorf("%w: volume %q: %w", ErrDeclaration, key.Volume, err)
	}
	return v, ok, err
}
