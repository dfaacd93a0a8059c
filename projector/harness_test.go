package projector

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// fakeCluster is a Cluster whose watch and whose truth can be told apart,
// which a real API server can't be made to do on command.
type fakeCluster struct {
	mu         sync.Mutex
	watch      map[types.UID]*corev1.Pod
	truth      map[types.UID]bool // Pods that exist
	confirmErr error
	vouches    map[types.UID]*corev1.Pod // known from ConfirmGone on
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]map[string][]byte
	bundles    []*certificatesv1.ClusterTrustBundle
	events     []string // reasons
	panics     bool
	ahead      time.Duration // the server's clock; 0 is not known

	confirmations int
	users         map[Key]bool // volumes that use a ConfigMap
}

func (c *fakeCluster) Pod(uid types.UID) *corev1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watch[uid]
}

func (c *fakeCluster) ConfigMap(_ context.Context, user Key, namespace, name string) (*corev1.ConfigMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panics {
		panic("secret text")
	}
	c.users[user] = true
	if cm, ok := c.configMaps[namespace+"/"+name]; ok {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (c *fakeCluster) Secret(_ context.Context, user Key, namespace, name string) (map[string][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[user] = true
	if data, ok := c.secrets[namespace+"/"+name]; ok {
		return data, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func (c *fakeCluster) TrustBundles(_ context.Context, user Key) ([]*certificatesv1.ClusterTrustBundle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[user] = true
	return c.bundles, nil
}

func (c *fakeCluster) Allocatable(context.Context) (corev1.ResourceList, error) {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}, nil
}

func (c *fakeCluster) Event(_ PodRef, e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e.Reason)
}

func (c *fakeCluster) Release(user Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.users, user)
}

func (c *fakeCluster) ConfirmGone(_ context.Context, pod PodRef) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirmations++
	if found := c.vouches[pod.UID]; found != nil {
		c.watch[pod.UID] = found
	}
	return !c.truth[pod.UID], c.confirmErr
}

func (*fakeCluster) NodeUID() string { return "node" }

func (c *fakeCluster) ServerTime() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead), c.ahead != 0
}

// harness is a projector on a directory of the test's own.
type harness struct {
	t       *testing.T
	root    string
	cluster *fakeCluster
	minter  *rotationtest.Minter
	p       *Projector
	stop    func()

	chooses   func(*corev1.Pod) bool // for the next start
	configure func(*Config)
}

func newHarnessWith(t *testing.T, configure func(*Config)) *harness {
	t.Helper()
	h := &harness{
		t: t, configure: configure, root: t.TempDir(), minter: &rotationtest.Minter{},
		cluster: &fakeCluster{
			watch: map[types.UID]*corev1.Pod{}, truth: map[types.UID]bool{}, users: map[Key]bool{},
			configMaps: map[string]*corev1.ConfigMap{"ns/ca": {Data: map[string]string{"ca.crt": "CA"}}},
		},
	}
	h.start()
	return h
}

// start runs a new projector, as a new process would.
func (h *harness) start() {
	h.t.Helper()
	tokens, err := rotation.NewManager(h.minter, rotation.DefaultPolicy())
	if err != nil {
		h.t.Fatal(err)
	}
	cfg := Config{
		Root: h.root, Cluster: h.cluster, Tokens: tokens, Medium: MediumDirectory, Chooses: h.chooses,
		Logger: slog.New(slog.NewTextHandler(h.t.Output(), nil)),
	}
	h.configure(&cfg)
	h.p, err = New(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.p.Run(ctx); err != nil {
			h.t.Error(err)
		}
	})
	h.stop = func() { cancel(); wg.Wait() }
	synctest.Wait()
}

// test runs f in a bubble with a projector that runs.
func test(t *testing.T, f func(t *testing.T, h *harness)) {
	t.Helper()
	testWith(t, func(*Config) {}, f)
}

// testWith is test with another configuration.
func testWith(t *testing.T, configure func(*Config), f func(t *testing.T, h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHarnessWith(t, configure)
		f(t, h)
		h.stop()
	})
}

const lifetime = time.Hour

// newPod is a Pod with one volume: token, ca.crt and name.
func newPod(uid string) *corev1.Pod {
	seconds, mode := int64(lifetime/time.Second), int32(0644)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "ns", UID: types.UID(uid)},
		Spec: corev1.PodSpec{
			ServiceAccountName: "sa",
			Containers:         []corev1.Container{{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				DefaultMode: &mode,
				Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}},
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "ca"}}},
					{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
						{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}},
					}}},
				},
			}}}},
		},
	}
}

// apply gives the watch and the truth a Pod, and waits until nothing is due.
func (h *harness) apply(pod *corev1.Pod) {
	h.cluster.mu.Lock()
	h.cluster.watch[pod.UID] = pod
	h.cluster.truth[pod.UID] = true
	h.cluster.mu.Unlock()
	h.p.Enqueue(pod)
	synctest.Wait()
}

// loseSight takes a Pod out of the watch, not out of the truth.
func (h *harness) loseSight(pod *corev1.Pod) {
	h.cluster.mu.Lock()
	delete(h.cluster.watch, pod.UID)
	h.cluster.mu.Unlock()
	h.p.Enqueue(pod)
	synctest.Wait()
}

func (h *harness) change(f func(*fakeCluster)) {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	f(h.cluster)
}

func (h *harness) dir(uid string) string {
	return filepath.Join(h.root, "pods", uid, "volumes", "kubernetes.io~projected", "v")
}

// token is the id of the token on disk; empty if there is none.
func (h *harness) token(uid string) string {
	h.t.Helper()
	content, err := os.ReadFile(filepath.Join(h.dir(uid), "token"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		h.t.Fatal(err)
	}
	claims, err := rotation.ParseClaims(string(content))
	if err != nil {
		h.t.Fatal(err)
	}
	return claims.ID
}

func (h *harness) set(uid string) atomicdir.Set {
	h.t.Helper()
	set, err := atomicdir.New(h.dir(uid)).Read()
	if err != nil {
		h.t.Fatal(err)
	}
	return set
}

// diskFiles are the names in a volume that may not exist.
func (h *harness) diskFiles(uid string) []string {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir(uid), "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

// entries are all names in a volume.
func (h *harness) entries(uid string) (names []string) {
	h.t.Helper()
	entries, err := os.ReadDir(h.dir(uid))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (h *harness) status(uid string) VolumeStatus {
	h.t.Helper()
	for _, v := range h.p.Volumes() {
		if v.PodUID == types.UID(uid) {
			return v
		}
	}
	return VolumeStatus{}
}

func (h *harness) assertToken(uid, want string) {
	h.t.Helper()
	if got := h.token(uid); got != want {
		h.t.Errorf("token on disk is %q, want %q", got, want)
	}
}

func (h *harness) assertPhase(uid string, want Phase) {
	h.t.Helper()
	if got := h.status(uid); got.Phase != want {
		h.t.Errorf("phase is %q, want %q (%s)", got.Phase, want, got.Problem)
	}
}

// sleep lets time pass and what is due happen.
func (h *harness) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
