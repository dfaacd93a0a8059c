package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// claim is a volume that somebody else asks for, and gives back: a kubelet, of a
// CSI driver, or a runtime. Guarded by Projector.mu.
type claim struct {
	path    string
	csi     bool          // it is for Config.CSIDriver, and not in the layout
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
	_ = p.claimLocked(key, claim{path: path, csi: true}) // never refused
}

// Publish has a projected volume that a Pod declares served in the layout, whether
// Config.Chooses the Pod or not, until Unpublish: the volume belongs to who asked
// for it, and stays for Config.GoneGrace after its Pod is gone for certain. It does
// not block, and only the names are checked yet; see Await.
func (p *Projector) Publish(key Key) error {
	path, err := volumePath(p.cfg.Root, key)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.claimLocked(key, claim{path: path})
}

// errOfCSI is for who would publish, or remove, what a kubelet has claimed.
var errOfCSI = fmt.Errorf("%w: it is a volume of the CSI driver, which the kubelet publishes and gives back", ErrDeclaration)

// claimLocked makes or changes a claim. Only a kubelet may change what it has claimed.
func (p *Projector) claimLocked(key Key, to claim) error {
	c, ok := p.claims[key]
	switch {
	case !ok:
		c = &claim{changed: make(chan struct{})}
		p.claims[key] = c
	case c.csi && !to.csi:
		return errOfCSI
	}
	if c.ending && !to.ending { // it may be half removed
		v := p.entryLocked(key)
		v.served, v.adopted, v.generation, v.has = false, false, "", contents{}
	}
	c.path, c.csi, c.ending, c.err = to.path, to.csi, to.ending, nil
	p.order.end(key, to.ending)
	p.entryLocked(key)
	p.addLocked(key)
	return nil
}

// ErrNotClaimed says that nobody has claimed a volume.
var ErrNotClaimed = errors.New("the volume is not claimed")

// Await waits until a claimed volume is published, which it stays whatever fails from
// then on. It returns the error of a pass that only a change of the Pod, of another
// object or of permissions can help, and ctx's when that ends; the work goes on in
// both cases. Without Run it waits until ctx ends.
func (p *Projector) Await(ctx context.Context, key Key) error {
	err := p.follow(ctx, key, func(c *claim) (bool, error) {
		v := p.volumes[key]
		if v != nil && v.served {
			return true, nil
		}
		return c.err != nil, c.err
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	// An earlier process may have published what this one can't.
	if published, reading := p.isPublished(key); published || reading != nil {
		return reading
	}
	return err
}

// isPublished says whether a claimed volume holds anything, by the disk.
func (p *Projector) isPublished(key Key) (bool, error) {
	c, claimed := p.claimOf(key)
	if !claimed {
		return false, nil
	}
	set, err := p.medium.read(c.path, atomicdir.New(c.path))
	return set.Generation != "", err
}

// Unclaim gives a volume back, and waits until nothing is mounted at path and its
// directory is gone, whether it was claimed or not. Without Run it waits until ctx ends.
func (p *Projector) Unclaim(ctx context.Context, key Key, path string) error {
	return p.giveBack(ctx, key, claim{path: path, csi: true, ending: true})
}

// Unpublish removes a volume of the layout, and waits until it is gone. It is no
// error if there is none. One that Config.Chooses comes back with its Pod's next
// event. Without Run it waits until ctx ends.
func (p *Projector) Unpublish(ctx context.Context, key Key) error {
	path, err := volumePath(p.cfg.Root, key)
	if err != nil {
		return err
	}
	return p.giveBack(ctx, key, claim{path: path, ending: true})
}

func (p *Projector) giveBack(ctx context.Context, key Key, to claim) error {
	p.mu.Lock()
	err := p.claimLocked(key, to)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	// A pass that was under way may fail with something else.
	err = p.follow(ctx, key, func(c *claim) (bool, error) { return errors.Is(c.err, errRemoving), c.err })
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
	if !errors.Is(err, ErrCatchingUp) && (!errors.Is(err, errNoVerdict) || errors.Is(err, errLeftAlone)) {
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
		p.order.end(key, false)
		close(c.changed)
	}
}

// abandon forgets a claim of a volume in the layout whose Pod is gone.
func (p *Projector) abandon(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.claims[key]; ok && !c.csi {
		c.ending = true
		p.order.end(key, true)
	}
}
