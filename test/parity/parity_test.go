//go:build parity

package parity

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/generator"
)

var getOptions = metav1.GetOptions{}

const namespace = "parity"

var (
	seed      = flag.Uint64("seed", 1, "what the random Pods begin with")
	generated = flag.Int("generated", 40, "how many random Pods there are")
)

// meaning is a difference that is meant.
type meaning struct {
	what  string
	stage string // empty: all
	is    func(d difference) bool
}

const debugged = "after an ephemeral container was added"

// deliberate are the differences that are meant, as docs/parity.md says.
var deliberate = []meaning{
	{"the kubelet adds two annotations to what it knows of a Pod", "", func(d difference) bool {
		var kept []string
		for line := range strings.Lines(d.kubelet) {
			if !strings.HasPrefix(line, "kubernetes.io/config.s") {
				kept = append(kept, strings.TrimSuffix(line, "\n"))
			}
		}
		return d.what == "content" && strings.Contains(d.kubelet, "kubernetes.io/config.seen") && strings.Join(kept, "\n") == d.projectord
	}},
	{"an earlier source of the same path goes on when the later one fails", "", func(d difference) bool {
		return d.path == "GENERATION/a" && d.kubelet == "secret a" && d.projectord == "changed a"
	}},
	{"credentials of a Pod whose containers no longer have one user get their new owner and mode at once, not with the next content", debugged, func(d difference) bool {
		_, group, _ := strings.Cut(d.kubelet, ":")
		return strings.HasPrefix(d.path, "GENERATION/") &&
			(d.what == "mode" && d.kubelet == "-rw-------" || d.what == "owner" && d.projectord == "0:"+group)
	}},
	{"links belong to the daemon's user", "", func(d difference) bool {
		_, kubelet, _ := strings.Cut(d.kubelet, ":")
		_, ours, _ := strings.Cut(d.projectord, ":")
		return d.what == "owner" && d.link && kubelet == ours
	}},
}

// TestParity compares the volumes of all cases, and again after what they are
// made of has changed.
func TestParity(t *testing.T) {
	r := newRig(t)
	bundle := r.makeObjects()
	pods := append(r.makePods(), r.generatePods(bundle)...)
	cases, same, meant, different := 0, 0, 0, 0
	for _, stage := range []struct {
		name   string
		change func(pods []*corev1.Pod)
		gone   []string // what no file may contain any more
		unseen bool     // no file shows that the kubelet has taken note
	}{
		{"at first", func([]*corev1.Pod) {}, nil, false},
		{"after a ConfigMap and a Secret changed", r.changeObjects, []string{"text a", "swordfish"}, false},
		{"after labels changed", r.changeLabels, []string{"blue"}, false},
		{"after a Secret was deleted", r.deleteSecret, nil, true},
		{debugged, r.addEphemeralContainers, nil, true},
	} {
		stage.change(pods)
		if stage.unseen {
			time.Sleep(resync)
		}
		for _, pod := range pods {
			for _, v := range pod.Spec.Volumes {
				if v.Projected == nil {
					continue
				}
				cases++
				wrong, allowed := r.settle(pod, v.Name, stage.name, stage.gone)
				switch {
				case len(wrong) > 0:
					different++
					t.Errorf("%s, %s: %v", pod.Name, stage.name, wrong)
				case allowed > 0:
					meant++
				default:
					same++
				}
			}
		}
	}
	fmt.Printf("RESULT parity cases=%d same=%d deliberate=%d different=%d\n", cases, same, meant, different)
}

// resync is how long it may take until the kubelet looks at a Pod again: half as
// much again as its syncFrequency (pkg/kubelet/pod_workers.go), and a little.
const resync = 10 * time.Second

// settleTime is how long two volumes may take to become the same: the kubelet
// looks at a Pod when it changes, and again and again.
const settleTime = 60 * time.Second

// settle waits until the volumes are the same but for what is meant, and
// returns what differs in the end.
func (r *rig) settle(pod *corev1.Pod, volume, stage string, gone []string) (wrong []difference, meant int) {
	patience := settleTime
	if r.Failed() {
		patience = 2 * time.Second // it is lost already; see what else differs
	}
	deadline := time.Now().Add(patience)
	for {
		all, err := r.compare(string(pod.UID), volume, gone)
		wrong, meant = nil, 0
		if err != nil {
			wrong = []difference{{what: err.Error()}}
		}
		for _, d := range all {
			if slices.ContainsFunc(deliberate, func(m meaning) bool { return (m.stage == "" || m.stage == stage) && m.is(d) }) {
				meant++
			} else {
				wrong = append(wrong, d)
			}
		}
		if len(wrong) == 0 || time.Now().After(deadline) {
			return wrong, meant
		}
		time.Sleep(200 * time.Millisecond)
	}
}

type objects struct {
	ConfigMaps map[string]*corev1.ConfigMap `json:"configMaps"`
	Secrets    map[string]*corev1.Secret    `json:"secrets"`
}

// makeObjects makes what the Pods refer to. It returns the trust bundle of the
// generated ones.
func (r *rig) makeObjects() (bundle string) {
	r.Helper()
	_, err := r.client.CoreV1().Namespaces().Create(r.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	r.must(err)
	r.eventually("the namespace to be filled", func() bool {
		filled, err := devcluster.NamespaceFilled(r.ctx, r.client, namespace)
		r.must(err)
		return filled
	})
	text, err := os.ReadFile("objects.yaml")
	r.must(err)
	var o objects
	r.must(yaml.UnmarshalStrict(text, &o))
	large := &corev1.ConfigMap{Data: map[string]string{}}
	for i := range 200 {
		large.Data[fmt.Sprintf("key-%03d", i)] = strings.Repeat("x", i)
	}
	o.ConfigMaps["cm-large"] = large
	for name, cm := range o.ConfigMaps {
		cm.Name = name
		_, err := r.client.CoreV1().ConfigMaps(namespace).Create(r.ctx, cm, metav1.CreateOptions{})
		r.must(err)
	}
	for name, s := range o.Secrets {
		s.Name = name
		_, err := r.client.CoreV1().Secrets(namespace).Create(r.ctx, s, metav1.CreateOptions{})
		r.must(err)
	}
	for _, b := range []*certificatesv1.ClusterTrustBundle{
		{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: "# comment\n" + r.newCA("one")}},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "example.com:parity:single", Labels: map[string]string{"kind": "single"}},
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: "example.com/parity", TrustBundle: r.newCA("single")},
		},
	} {
		_, err := r.client.CertificatesV1().ClusterTrustBundles().Create(r.ctx, b, metav1.CreateOptions{})
		r.must(err)
	}
	bundle = r.newCA("generated")
	r.must(generator.MakeObjects(r.ctx, r.client, namespace, bundle))
	return bundle
}

func (r *rig) newCA(name string) string {
	r.Helper()
	anchor, err := devcluster.TrustAnchor(name)
	r.must(err)
	return anchor
}

// makePods makes a Pod of each file in cases.
func (r *rig) makePods() (pods []*corev1.Pod) {
	r.Helper()
	files, err := filepath.Glob("cases/*.yaml")
	r.must(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		r.must(err)
		pod := &corev1.Pod{}
		r.must(yaml.UnmarshalStrict(text, pod))
		pod.Name = strings.TrimSuffix(filepath.Base(file), ".yaml")
		created, err := r.create(pod)
		if err != nil {
			r.Fatalf("%s: %v", file, err)
		}
		pods = append(pods, created)
	}
	return pods
}

// generatePods makes random Pods whose volumes can be published, -generated of
// them.
func (r *rig) generatePods(bundle string) (pods []*corev1.Pod) {
	r.Helper()
	for n := uint64(0); len(pods) < *generated; n++ {
		c := generator.New(*seed, n, namespace, bundle)
		if !c.Writable() {
			continue
		}
		pod, err := r.create(c.Pod(namespace, fmt.Sprint("generated-", n), nodeName))
		if apierrors.IsInvalid(err) {
			continue
		}
		r.must(err)
		pods = append(pods, pod)
	}
	return pods
}

// create has a Pod run on the node, where nothing of it ever starts.
func (r *rig) create(pod *corev1.Pod) (*corev1.Pod, error) {
	pod.Spec.NodeName, pod.Spec.HostNetwork = nodeName, true
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].Image, containers[i].ImagePullPolicy = "none.invalid/none:1", corev1.PullNever
		}
	}
	return r.client.CoreV1().Pods(namespace).Create(r.ctx, pod, metav1.CreateOptions{})
}

func (r *rig) patch(pod *corev1.Pod, patch string) {
	r.Helper()
	_, err := r.client.CoreV1().Pods(namespace).Patch(r.ctx, pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	r.must(err)
}

// touch has the kubelet look at each Pod again.
func (r *rig) touch(pods []*corev1.Pod, note string) {
	for _, pod := range pods {
		r.patch(pod, fmt.Sprintf(`{"metadata": {"annotations": {"touched": %q}}}`, note))
	}
}

func (r *rig) changeObjects(pods []*corev1.Pod) {
	r.Helper()
	_, err := r.client.CoreV1().ConfigMaps(namespace).Patch(r.ctx, "cm", types.MergePatchType,
		[]byte(`{"data": {"a": "changed a", "c": "new c"}}`), metav1.PatchOptions{})
	r.must(err)
	_, err = r.client.CoreV1().Secrets(namespace).Patch(r.ctx, "s", types.MergePatchType,
		[]byte(`{"stringData": {"password": "changed"}}`), metav1.PatchOptions{})
	r.must(err)
	r.touch(pods, "objects")
}

func (r *rig) changeLabels(pods []*corev1.Pod) {
	for _, pod := range pods {
		r.patch(pod, `{"metadata": {"labels": {"color": "red", "more": "m"}}}`)
	}
}

func (r *rig) deleteSecret(pods []*corev1.Pod) {
	r.must(r.client.CoreV1().Secrets(namespace).Delete(r.ctx, "s-like-cm", metav1.DeleteOptions{}))
	r.touch(pods, "deleted")
}

func (r *rig) addEphemeralContainers(pods []*corev1.Pod) {
	for _, pod := range pods {
		current, err := r.client.CoreV1().Pods(namespace).Get(r.ctx, pod.Name, getOptions)
		r.must(err)
		user := int64(4242)
		current.Spec.EphemeralContainers = append(current.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: "debug", Image: "none.invalid/none:1", SecurityContext: &corev1.SecurityContext{RunAsUser: &user},
			},
		})
		_, err = r.client.CoreV1().Pods(namespace).UpdateEphemeralContainers(r.ctx, pod.Name, current, metav1.UpdateOptions{})
		r.must(err)
	}
}
