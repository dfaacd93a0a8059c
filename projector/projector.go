// Package projector keeps the projected volumes of one node's Pods on disk: it
// publishes each volume, rotates its tokens when they are due, adopts what an
// earlier process left and removes what is no longer wanted.
//
// It does not talk to Kubernetes: a Cluster tells it what is wanted, and a
// rotation.Manager gives it tokens. The disk is its only state.
package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
)

// PodRef names one Pod. Namespace and Name are empty where only the UID is
// known, as for a volume that an earlier process left.
type PodRef struct {
	Namespace, Name string
	UID             types.UID
}

// Cluster is what the projector asks of Kubernetes. It is called by many
// goroutines.
type Cluster interface {
	// Pod returns the Pod with this UID as it was last seen, or nil. The Pod
	// must not be changed.
	Pod(uid types.UID) *corev1.Pod
	// ConfigMap returns a ConfigMap for a volume that uses it, until it is
	// released: if the object changes, the volume is to be enqueued. Its errors
	// are the API's. The ConfigMap must not be changed.
	ConfigMap(ctx context.Context, user Key, namespace, name string) (*corev1.ConfigMap, error)
	// Secret returns the data of a Secret, on the same terms.
	Secret(ctx context.Context, user Key, namespace, name string) (map[string][]byte, error)
	// TrustBundles returns all ClusterTrustBundles, on the same terms.
	TrustBundles(ctx context.Context, user Key) ([]*certificatesv1.ClusterTrustBundle, error)
	// Allocatable is what the node has to give to Pods.
	Allocatable(ctx context.Context) (corev1.ResourceList, error)
	// Event tells those who look at a Pod. It does not block.
	Event(pod PodRef, e Event)
	// Release says that a volume uses nothing any more.
	Release(user Key)
	// ConfirmGone says whether the Pod is gone for certain. Anything short of
	// certainty is an error, or false. A Pod that is not gone may be known to Pod
	// from then on, for a while.
	ConfirmGone(ctx context.Context, pod PodRef) (bool, error)
	// NodeUID is that of this node's object; empty if it is not known.
	NodeUID() string
	// ServerTime is what time it is for the API server, if that is known.
	ServerTime() (now time.Time, known bool)
}

// Config is what a Projector needs. Fields without a default are required.
type Config struct {
	// Root is the directory below which volumes lie, in the kubelet's layout:
	// <Root>/pods/<pod UID>/volumes/kubernetes.io~projected/<volume name>.
	Root    string
	Cluster Cluster
	Tokens  *rotation.Manager
	Logger  *slog.Logger
	// Medium is what volumes are made of; the default is MediumTmpfs.
	Medium Medium
	// SizeLimit of a volume in bytes, for MediumTmpfs; 0 is the kernel's
	// default.
	SizeLimit int64
	// GenerationGrace is how long an old generation stays for readers in the
	// middle of it; see atomicdir.WithGrace. Zero removes it at once, as the
	// kubelet does; atomicdir.DefaultGrace is what projectord uses.
	GenerationGrace time.Duration
	// KeepOwners leaves all files to the user and group of the process, for one
	// that may not give them away.
	KeepOwners bool
	// MassRemovalHold is how long volumes stay whose Pods are gone, if there are
	// suddenly many and no deletion was seen; DefaultMassRemovalHold is what
	// projectord uses. Zero removes them at once.
	MassRemovalHold time.Duration
	// Selector chooses by their labels the Pods that get volumes; the default
	// is all. A Pod that has volumes keeps them when it is no longer chosen.
	Selector labels.Selector
}

// workers is how many volumes are worked on at once. A pass mostly waits for
// the API server, so there are more than cores; requests are limited elsewhere.
const workers = 32

// DefaultMassRemovalHold is long enough for somebody to look.
const DefaultMassRemovalHold = 10 * time.Minute

// checkInterval is how often a volume is looked at without a reason: what others
// have done to it is put right then.
const checkInterval = 5 * time.Minute

// Key names one volume on this node.
type Key struct {
	PodUID types.UID
	Volume string
}

// Projector is the projected volumes of one node. Make it with New, tell it of
// Pods with Enqueue and let Run work. Its methods may be called concurrently.
type Projector struct {
	cfg    Config
	medium medium

	backoff backoff
	order   *order

	mu        sync.Mutex
	volumes   map[Key]*volume
	stats     Stats
	heldSince time.Time                             // see hold; zero if nothing is held
	early     map[Key]bool                          // keys of events before Run
	queue     workqueue.TypedDelayingInterface[Key] // nil before Run
}

// New checks the configuration. It starts nothing and touches no file.
func New(cfg Config) (*Projector, error) {
	switch {
	case !filepath.IsAbs(cfg.Root):
		return nil, fmt.Errorf("root directory %q: want an absolute path", cfg.Root)
	case cfg.MassRemovalHold < 0:
		return nil, fmt.Errorf("mass removal hold %s: want 0 or more", cfg.MassRemovalHold)
	case cfg.GenerationGrace < 0:
		return nil, fmt.Errorf("generation grace %s: want 0 or more", cfg.GenerationGrace)
	case cfg.Cluster == nil || cfg.Tokens == nil || cfg.Logger == nil:
		return nil, errors.New("projector needs a cluster, a token manager and a logger")
	}
	if cfg.Selector == nil {
		cfg.Selector = labels.Everything()
	}
	m, err := newMedium(cfg.Medium, cfg.SizeLimit)
	if err != nil {
		return nil, err
	}
	p := &Projector{
		cfg:     cfg,
		medium:  m,
		backoff: newBackoff(),
		order:   newOrder(),
		volumes: map[Key]*volume{},
		early:   map[Key]bool{},
	}
	cfg.Tokens.OnDue(p.EnqueueAll)
	return p, nil
}

// Enqueue has the volumes of a Pod looked at as soon as Run works: those that
// it declares and those that are known of it. Call it for each event of the
// Pod. It does not block.
func (p *Projector) Enqueue(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range payload.Volumes(pod) {
		p.addLocked(Key{PodUID: pod.UID, Volume: v.Name})
	}
	for key := range p.volumes {
		if key.PodUID == pod.UID {
			p.addLocked(key)
		}
	}
}

// EnqueueAll has all volumes looked at: something may have changed that concerns
// each. It does not block.
func (p *Projector) EnqueueAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.volumes {
		p.addLocked(key)
	}
}

// EnqueueVolume has one volume looked at, because an object that it uses has
// changed. It does not block.
func (p *Projector) EnqueueVolume(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(key)
}

func (p *Projector) addLocked(key Key) {
	if p.queue == nil {
		p.early[key] = true
		return
	}
	p.queue.Add(key)
}

// Run works until ctx ends and then waits for what is under way; volumes stay
// as they are. Call it once, when the Cluster knows this node's Pods: a volume
// on disk whose Pod it does not know is taken for a leftover, to be removed
// when that is confirmed.
func (p *Projector) Run(ctx context.Context) error {
	leftovers, err := p.onDisk()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.queue = workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[Key]{
		Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[Key]{Queue: p.order}),
	})
	for _, key := range leftovers {
		p.entryLocked(key)
		p.early[key] = true
	}
	for key := range p.early {
		p.queue.Add(key)
	}
	p.early = nil
	p.mu.Unlock()

	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for p.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	p.queue.ShutDown()
	wg.Wait()
	return nil
}

// work takes one key from the queue; it returns false when the queue is shut.
func (p *Projector) work(ctx context.Context) bool {
	key, shut := p.queue.Get()
	if shut {
		return false
	}
	defer p.queue.Done(key)
	if ctx.Err() != nil {
		return false // a queue that is shut still hands out what is in it
	}
	var again time.Time
	err := p.contain(func() (err error) {
		again, err = p.reconcile(ctx, key)
		return err
	})
	if ctx.Err() != nil {
		return true // what failed because of the end is no failure
	}
	if errors.Is(err, errNoVerdict) {
		err = nil
	} else {
		p.note(key, err)
	}
	// Of two waits the queue takes the shorter. What is overdue and failed has
	// only its backoff.
	if err != nil {
		p.queue.AddAfter(key, p.backoff.wait(key, err, p.order.get(key)))
	} else {
		p.backoff.forget(key)
	}
	if wait := time.Until(again); !again.IsZero() && (err == nil || wait > 0) {
		p.queue.AddAfter(key, wait)
	}
	return true
}

// contain keeps a panic in the volume whose pass it is: it becomes an error.
func (p *Projector) contain(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			// Not %v: what was panicked with might hold a token.
			err = fmt.Errorf("panic of type %T while working on the volume; please report it", r)
			p.cfg.Logger.Error("panic", "type", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
		}
	}()
	return f()
}
