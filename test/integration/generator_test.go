package integration

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/generator"
)

var (
	seed      = flag.Uint64("seed", 1, "what TestWhatTheServerAccepts begins its random volumes with")
	generated = flag.Int("volumes", 150, "how many volumes TestWhatTheServerAccepts makes")
)

// TestWhatTheServerAccepts: whatever volume the API server accepts is written
// as the Pod asks for it, or waits with a reason; nothing panics, nothing is
// stuck, and nothing lies where it should not. `make parity` compares some of
// these volumes with the kubelet's.
func TestWhatTheServerAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady()
	bundle, err := devcluster.TrustAnchor(generator.Object)
	w.must(err)
	w.must(generator.MakeObjects(w.ctx, w.client, w.ns, bundle))
	written, waiting, refused := 0, 0, 0
	for n := range *generated {
		c := generator.New(*seed, uint64(n), w.ns, bundle)
		pod, err := w.client.CoreV1().Pods(w.ns).Create(w.ctx, c.Pod(w.ns, fmt.Sprint("pod-", n), w.node), metav1.CreateOptions{})
		if apierrors.IsInvalid(err) {
			refused++
			continue
		}
		w.must(err)
		dir := w.volume(pod, generator.VolumeName)
		if !c.Writable() {
			waiting++
			_, err := d.WaitLine(w.ctx, "the reason why a volume waits", func(l daemon.Line) bool {
				return l.Text("pod_uid") == string(pod.UID) && l.Text("error") != ""
			})
			w.must(err)
			if w.exists(dir) && w.exists(filepath.Join(dir, "..data")) {
				t.Errorf("volume %d of seed %d was published, though it can't be whole: %v", n, *seed, c.Files)
			}
			continue
		}
		written++
		w.assertVolume(n, dir, c.Files)
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
		switch {
		case content == "" && strings.Count(got, ".") == 2: // a token
		case content == generator.Empty && got == "":
		case content == "" || got != content:
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
