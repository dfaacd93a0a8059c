package integration

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/daemon"
)

var (
	seed      = flag.Uint64("seed", 1, "what TestWhatTheServerAccepts begins its random volumes with")
	generated = flag.Int("volumes", 150, "how many volumes TestWhatTheServerAccepts makes")
)

// generator makes random projected volumes from what an API server may accept,
// and knows what must become of them.
type generator struct {
	*rand.Rand
	ns string
	// files is what the volume must hold, by the path as the Pod gives it; a
	// token has the content "".
	files map[string]string
	// absent says that a source names what does not exist.
	absent bool
}

// paths that the API server accepts, or some version of it did.
var generatedPaths = []string{
	"a", "b", "a/b", "a//b", "a/./c", "./d", "d/", "a/..e", "...f", ".g", "dir/sub/file", "with space", "ünï", strings.Repeat("n", 255),
	"..h", "../i", "/j", ".", "..data", "./..data", "k\nl",
}

func (g *generator) path() string {
	if g.IntN(8) == 0 {
		return generatedPaths[g.IntN(len(generatedPaths))]
	}
	return fmt.Sprintf("file-%d", g.IntN(40))
}

func (g *generator) optional() *bool {
	yes := g.IntN(2) == 0
	return &yes
}

func (g *generator) mode() *int32 {
	if g.IntN(2) == 0 {
		return nil
	}
	mode := int32(g.IntN(01000))
	return &mode
}

// items of the object that the test made, whose key "k" has the content "v".
func (g *generator) items(optional *bool) (items []corev1.KeyToPath) {
	for range g.IntN(3) {
		item := corev1.KeyToPath{Key: []string{"k", "none"}[g.IntN(8)/7], Path: g.path(), Mode: g.mode()}
		items = append(items, item)
		switch {
		case item.Key == "k":
			g.files[item.Path] = "v"
		case !*optional:
			g.absent = true
		}
	}
	if len(items) == 0 {
		g.files["k"] = "v"
	}
	return items
}

// object names the object that the test made, or one that does not exist.
func (g *generator) object(optional *bool) (ref corev1.LocalObjectReference, items []corev1.KeyToPath) {
	if g.IntN(10) == 0 {
		g.absent = g.absent || !*optional
		return corev1.LocalObjectReference{Name: "absent"}, nil
	}
	return corev1.LocalObjectReference{Name: "object"}, g.items(optional)
}

func (g *generator) source() (s corev1.VolumeProjection) {
	optional := g.optional()
	switch g.IntN(4) {
	case 0:
		s = tokenSource([]string{"", "vault", "ünï code", strings.Repeat("a", 200)}[g.IntN(4)], int64(600+g.IntN(1<<20)), g.path())
		g.files[s.ServiceAccountToken.Path] = ""
	case 1:
		ref, items := g.object(optional)
		s.ConfigMap = &corev1.ConfigMapProjection{LocalObjectReference: ref, Items: items, Optional: optional}
	case 2:
		ref, items := g.object(optional)
		s.Secret = &corev1.SecretProjection{LocalObjectReference: ref, Items: items, Optional: optional}
	case 3:
		p := g.path()
		s.DownwardAPI = &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: p, Mode: g.mode(), FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
		}}
		g.files[p] = g.ns
	}
	return s
}

// writable says whether the files can be written at all: no two at one place,
// and none where another needs a directory.
func (g *generator) writable() bool {
	clean := map[string]bool{}
	for p := range g.files {
		c := path.Clean(p)
		if clean[c] || c == "." || strings.HasPrefix(c, "..") || strings.HasPrefix(p, "/") {
			return false
		}
		clean[c] = true
	}
	for c := range clean {
		for dir := path.Dir(c); dir != "."; dir = path.Dir(dir) {
			if clean[dir] {
				return false
			}
		}
	}
	return true
}

// TestWhatTheServerAccepts: whatever volume the API server accepts is written
// as the Pod asks for it, or waits with a reason; nothing panics, nothing is
// stuck, and nothing lies where it should not.
func TestWhatTheServerAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady()
	_, err := w.client.CoreV1().ConfigMaps(w.ns).Create(w.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "object"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	w.must(err)
	_, err = w.client.CoreV1().Secrets(w.ns).Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "object"}, Data: map[string][]byte{"k": []byte("v")}}, metav1.CreateOptions{})
	w.must(err)
	written, waiting, refused := 0, 0, 0
	for n := range *generated {
		g := &generator{Rand: rand.New(rand.NewPCG(*seed, uint64(n))), ns: w.ns, files: map[string]string{}}
		sources := []corev1.VolumeProjection{tokenSource("", 3600, "token")}
		g.files["token"] = ""
		for range 1 + g.IntN(5) {
			sources = append(sources, g.source())
		}
		pod, err := w.client.CoreV1().Pods(w.ns).Create(w.ctx, withVolume(w.newPod(fmt.Sprint("pod-", n)), g.mode(), sources...), metav1.CreateOptions{})
		if apierrors.IsInvalid(err) {
			refused++
			continue
		}
		w.must(err)
		dir := w.volume(pod, "v")
		if g.absent || !g.writable() {
			waiting++
			_, err := d.WaitLine(w.ctx, "the reason why a volume waits", func(l daemon.Line) bool {
				return l.Text("pod_uid") == string(pod.UID) && l.Text("error") != ""
			})
			w.must(err)
			if w.exists(dir) && w.exists(filepath.Join(dir, "..data")) {
				t.Errorf("volume %d of seed %d was published, though it can't be whole: %v", n, *seed, g.files)
			}
			continue
		}
		written++
		w.assertVolume(n, dir, g.files)
	}
	fmt.Printf("RESULT generator volumes=%d written=%d waiting=%d refused=%d\n", *generated, written, waiting, refused)
	if written == 0 || waiting == 0 || refused == 0 {
		t.Error("the generator is one-sided")
	}
}

// assertVolume compares the whole volume with what it must hold.
func (w *world) assertVolume(n int, dir string, want map[string]string) {
	w.Helper()
	for p, content := range want {
		got := w.waitFile(filepath.Join(dir, filepath.FromSlash(p)))
		if content != "" && got != content || content == "" && strings.Count(got, ".") != 2 {
			w.Errorf("volume %d of seed %d: %q holds %.20q, want %q", n, *seed, p, got, content)
		}
	}
	current, err := os.Readlink(filepath.Join(dir, "..data"))
	w.must(err)
	files := 0
	w.must(filepath.WalkDir(filepath.Join(dir, current), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files++
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}))
	if files != len(want) {
		w.Errorf("volume %d of seed %d holds %d files, want %d: %v", n, *seed, files, len(want), want)
	}
}
