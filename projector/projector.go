// Package projector keeps the projected volumes of one node's Pods on disk: it
// publishes each volume, rotates its tokens when they are due, adopts what an
// earlier process left and removes what is no longer wanted.
//
// It does not talk to Kubernetes: a Cluster tells it what is wanted, and a
// rotation.Manager gives it tokens. The disk is its only state. It is for Linux.
//
// Pods are published as they are told of, by Projector.Enqueue, or when somebody asks for
// a volume, by Projector.Publish and Projector.Await; Config.Chooses tells which.
package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
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
	// must not be changed. It must neither block nor call the Projector.
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
	// <Root>/pods/<pod UID>/volumes/kubernetes.io~projected/<volume name>. Nothing
	// else may work there: see package rootlock.
	Root    string
	Cluster Cluster
	Tokens  *rotation.Manager
	Logger  *slog.Logger
	// Medium is what volumes are made of; the default is MediumTmpfs.
	Medium Medium
	// SizeLimit of a volume in bytes, with room for two sets of its files; 0 is the
	// kernel's default of a tmpfs, and none for a directory.
	SizeLimit int64
	// TotalSizeLimit of all volumes together in bytes; 0 is none. What would go
	// beyond it is not published.
	TotalSizeLimit int64
	// GenerationGrace is how long an old generation stays for readers in the
	// middle of it; see atomicdir.WithGrace. Zero removes it at once, as the
	// kubelet does; atomicdir.DefaultGrace is what projectord uses.
	GenerationGrace time.Duration
	// KeepOwners leaves all files to the user and group of the process, for one
	// that may not give them away.
	KeepOwners bool
	// CSIDriver is the name under which Pods declare volumes that are claimed; see
	// Claim. The default is none.
	CSIDriver string
	// MassRemovalHold is how long volumes stay whose Pods are gone, if there are
	// suddenly many and no deletion was seen; DefaultMassRemovalHold is what
	// projectord uses. Zero removes them at once.
	MassRemovalHold time.Duration
	// GoneGrace is how long a volume that was published (see Publish), or that an
	// earlier process left, stays after its Pod is gone for certain;
	// DefaultGoneGrace is what projectord uses where it serves runtimes. Zero
	// removes it at once.
	GoneGrace time.Duration
	// Adopted, unless nil, is called once, when every volume that an earlier
	// process left has been looked at. It must not block, nor wait for a volume:
	// nothing may be working yet.
	Adopted func()
	// Changed, unless nil, is called when the status of a volume may have changed: see
	// Volume. It is called by many goroutines and must not block.
	Changed func(Key)
	// Chooses says whether a Pod gets volumes; the default is that all do. A Pod
	// that has volumes keeps them when it is no longer chosen. It is called by
	// many goroutines and must not block.
	Chooses func(*corev1.Pod) bool
}

// DefaultMassRemovalHold is long enough for somebody to look.
const DefaultMassRemovalHold = 10 * time.Minute

// DefaultGoneGrace is long enough for a runtime that is being restarted.
const DefaultGoneGrace = 10 * time.Minute

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

	mu      sync.Mutex
	volumes map[Key]*volume
	claims  map[Key]*claim
	stats   Stats
	unseen  map[Key]bool                          // volumes of an earlier process; nil when Adopted was called
	early   map[Key]bool                          // keys of events before Run
	queue   workqueue.TypedDelayingInterface[Key] // nil before Run
}

// Validate says which value in c can't be.
func (c Config) Validate() error {
	switch {
	case !filepath.IsAbs(c.Root):
		return fmt.Errorf("root directory %q: want an absolute path", c.Root)
	case c.MassRemovalHold < 0 || c.GoneGrace < 0:
		return fmt.Errorf("mass removal hold %s and grace of Pods that are gone %s: want 0 or more", c.MassRemovalHold, c.GoneGrace)
	case c.SizeLimit < 0 || c.TotalSizeLimit < 0:
		return fmt.Errorf("size limits %d and %d: want 0 or more", c.SizeLimit, c.TotalSizeLimit)
	case c.GenerationGrace < 0:
		return fmt.Errorf("generation grace %s: want 0 or more", c.GenerationGrace)
	}
	_, err := newMedium(c.Medium, c.SizeLimit)
	return err
}

// New checks the configuration. It starts nothing and touches no file.
func New(cfg Config) (*Projector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Cluster == nil || cfg.Tokens == nil || cfg.Logger == nil {
		return nil, errors.New("projector needs a cluster, a token manager and a logger")
	}
	if cfg.Adopted == nil {
		cfg.Adopted = func() {}
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Key) {}
	}
	if cfg.Chooses == nil {
		cfg.Chooses = func(*corev1.Pod) bool { return true }
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
		claims:  map[Key]*claim{},
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

// EnqueueUrgent has those volumes looked at that fail and have nothing valid
// published: whatever kept them from it may be over. It does not block.
func (p *Projector) EnqueueUrgent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, v := range p.volumes {
		if v.problem != "" && !p.order.get(key).After(time.Now()) {
			p.addLocked(key)
		}
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
