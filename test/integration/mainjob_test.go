package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/referee"
)

// TestMainJob takes a Pod from its creation to its end: files, identity,
// rotation, removal.
func TestMainJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady("--rotation-max-age=10s")
	pod := w.create(w.newPod("web"))
	files := w.tokenFiles(pod)
	if len(files) != 1 {
		t.Fatalf("admission gave the Pod %d token files, want 1", len(files))
	}
	first := w.waitFile(files[0].Path)
	dir := filepath.Dir(files[0].Path)

	w.must(w.review(files[0], first))
	if strings.TrimSpace(first) != first {
		t.Error("the token file has white space around the token")
	}
	cm, err := w.client.CoreV1().ConfigMaps(w.ns).Get(w.ctx, "kube-root-ca.crt", metav1.GetOptions{})
	w.must(err)
	if got := w.waitFile(filepath.Join(dir, "ca.crt")); got != cm.Data["ca.crt"] {
		t.Errorf("ca.crt is %q", got)
	}
	if got := w.waitFile(filepath.Join(dir, "namespace")); got != w.ns {
		t.Errorf("namespace is %q", got)
	}
	for _, name := range []string{"token", "ca.crt", "namespace"} {
		if target, err := os.Readlink(filepath.Join(dir, name)); err != nil || target != "..data/"+name {
			t.Errorf("%s links to %q, %v", name, target, err)
		}
	}

	refereeCtx, stop := context.WithCancel(w.ctx)
	ref := referee.New(w.client, 50*time.Millisecond, func(referee.Change) {})
	files[0].MaxAge = 20 * time.Second
	ref.Watch(files[0])
	var wg sync.WaitGroup
	wg.Go(func() { ref.Run(refereeCtx) })
	w.eventually("two rotations", func() bool { return ref.Report().Rotations >= 2 })
	stop()
	wg.Wait()
	if r := ref.Report(); r.Lapsed+r.Broken+r.WrongIdentity != 0 {
		t.Errorf("the referee saw %+v", r)
	}

	last := w.waitFile(files[0].Path)
	w.deletePod(pod)
	w.eventually("the volume to go", func() bool { return !w.exists(dir) })
	w.eventually("its token to be refused", func() bool { return errors.Is(w.review(files[0], last), referee.ErrRefused) })
	w.eventually("the Pod's directory to go", func() bool { return !w.exists(filepath.Join(w.root(), "pods", string(pod.UID))) })
}

// TestManySourcesAndOwners projects what the injected volume does not have:
// an audience, modes, an fsGroup and all downwardAPI fields.
func TestManySourcesAndOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	_, err := w.client.CoreV1().ConfigMaps(w.ns).Create(w.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings"},
		Data:       map[string]string{"a": "text"}, BinaryData: map[string][]byte{"b": {0, 255}},
	}, metav1.CreateOptions{})
	w.must(err)
	pod := w.newPod("many")
	no, seconds, mode, user, group := false, int64(600), int32(0400), int64(1234), int64(5678)
	pod.Labels = map[string]string{"app": "many"}
	pod.Spec.AutomountServiceAccountToken = &no
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, FSGroup: &group}
	pod.Spec.Volumes = []corev1.Volume{{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: &seconds, Path: "tokens/vault"}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				{Path: "uid", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}},
			}}},
		},
	}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "all", MountPath: "/all"}}
	pod = w.create(pod)

	files := w.tokenFiles(pod)
	w.must(w.review(files[0], w.waitFile(files[0].Path)))
	dir := w.volume(pod, "all")
	for path, want := range map[string]string{"a": "text", "b": "\x00\xff", "labels": `app="many"`, "uid": string(pod.UID)} {
		if got := w.waitFile(filepath.Join(dir, path)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	info, err := os.Stat(files[0].Path)
	w.must(err)
	if os.Geteuid() == 0 {
		assertOwner(t, info, 1234, 5678)
		if info.Mode().Perm() != 0640 {
			t.Errorf("the token's mode is %v, want 0640", info.Mode())
		}
	}
}

// TestUnresolvedSourceHoldsUpNobodyElse leaves one Pod waiting for a ConfigMap
// while another is served, and serves it once the ConfigMap is there.
func TestUnresolvedSourceHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	d := w.startReady()
	waiting := w.newPod("waiting")
	waiting.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "late"}}},
		},
	}}}}
	waiting.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	waiting = w.create(waiting)
	good := w.create(w.newPod("good"))
	w.waitFile(w.tokenFiles(good)[0].Path)

	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	_, err := d.WaitLine(ctx, "why the volume waits", func(l daemon.Line) bool {
		return l.Text("pod") == "waiting" && strings.Contains(l.Text("error"), `ConfigMap "late"`)
	})
	w.must(err)
	if w.exists(w.volume(waiting, "v")) {
		t.Error("a volume was made without all of its sources")
	}
	_, err = w.client.CoreV1().ConfigMaps(w.ns).Create(w.ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	w.must(err)
	if got := w.waitFile(filepath.Join(w.volume(waiting, "v"), "k")); got != "v" {
		t.Errorf("k is %q", got)
	}
}

// TestOptedOutPodGetsNothing serves a Pod beside one that opted out.
func TestOptedOutPodGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	w.startReady()
	no := false
	out := w.newPod("out")
	out.Spec.AutomountServiceAccountToken = &no
	out = w.create(out)
	in := w.create(w.newPod("in")) // later, so that its files say that the first was looked at
	w.waitFile(w.tokenFiles(in)[0].Path)
	if w.exists(filepath.Join(w.root(), "pods", string(out.UID))) {
		t.Error("a Pod that opted out got a directory")
	}
}

// TestConfigMapChangesReachTheDisk changes, deletes and makes again a ConfigMap
// that two Pods share, and ends its watch with the last of them.
func TestConfigMapChangesReachTheDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startCluster(t))
	d := w.startReady()
	configMaps := w.client.CoreV1().ConfigMaps(w.ns)
	watches := func() int {
		return w.serverSum(func(line string) bool {
			return strings.HasPrefix(line, "apiserver_longrunning_requests{") && strings.Contains(line, `resource="configmaps",scope="resource"`)
		})
	}
	others := watches() // the control plane's own
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"k": "one"}}
	_, err := configMaps.Create(w.ctx, cm, metav1.CreateOptions{})
	w.must(err)
	var pods []*corev1.Pod
	var paths []string
	for _, name := range []string{"a", "b"} {
		pod := w.create(withVolume(w.newPod(name), nil, tokenSource("", 3600, "token"), corev1.VolumeProjection{
			ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}},
		}))
		pods, paths = append(pods, pod), append(paths, filepath.Join(w.volume(pod, "v"), "k"))
	}
	for _, path := range paths {
		w.waitFile(path)
	}
	if n := watches() - others; n != 1 {
		t.Errorf("%d watches of single ConfigMaps for two Pods that share one, want 1", n)
	}

	cm.Data["k"] = "two"
	_, err = configMaps.Update(w.ctx, cm, metav1.UpdateOptions{})
	w.must(err)
	changed := time.Now()
	for _, path := range paths {
		w.eventually("the change on disk", func() bool { return w.waitFile(path) == "two" })
	}
	if took := time.Since(changed); took > time.Second {
		t.Errorf("a change took %v to reach the disk, want a second at most", took)
	}

	w.must(configMaps.Delete(w.ctx, "settings", metav1.DeleteOptions{}))
	w.eventually("the volumes to be degraded", func() bool {
		_, body, err := d.Get(w.ctx, "/metrics")
		w.must(err)
		return strings.Contains(body, `projectord_volumes{phase="Degraded"} 2`)
	})
	if got := w.waitFile(paths[0]); got != "two" {
		t.Errorf("without its ConfigMap the file is %q, want its last good content", got)
	}
	cm.Data["k"], cm.ResourceVersion = "three", ""
	_, err = configMaps.Create(w.ctx, cm, metav1.CreateOptions{})
	w.must(err)
	for _, path := range paths {
		w.eventually("the new ConfigMap on disk", func() bool { return w.waitFile(path) == "three" })
	}
	for _, pod := range pods {
		w.deletePod(pod)
	}
	w.eventually("the watch to end with its last user", func() bool { return watches() == others })
}
