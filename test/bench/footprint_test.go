package bench

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// idle is how long the daemon is left alone while its CPU time is counted.
const idle = time.Minute

// BenchmarkFootprint measures projectord with 500 volumes in 100 namespaces
// during an idle minute: once with the injected volume, so that 100 ConfigMaps
// are watched, and once with a ConfigMap more for each Pod, 600 in all.
func BenchmarkFootprint(b *testing.B) {
	b.Run("InjectedVolume", func(b *testing.B) { footprint(b, false, 60) })
	b.Run("OwnConfigMap", func(b *testing.B) { footprint(b, true, 75) })
}

// footprint measures once, with a daemon of its own that ends with b.
func footprint(b *testing.B, ownConfigMaps bool, maxMiB float64) {
	const namespaces, podsEach = 100, 5
	r := newRig(b)
	var pods []*corev1.Pod
	objects := namespaces
	for n := range namespaces {
		ns := fmt.Sprintf("ns-%d", n)
		r.namespace(ns)
		for i := range podsEach {
			name := fmt.Sprintf("pod-%d", i)
			if !ownConfigMaps {
				pod, _ := r.post(ns, name)
				pods = append(pods, pod)
				continue
			}
			pods = append(pods, r.postWithConfigMap(ns, name))
			objects++
		}
	}
	for _, pod := range pods {
		r.waitFiles(pod)
	}
	before := r.cpuSeconds()
	time.Sleep(idle) // this is the measurement
	cpu := r.cpuSeconds() - before
	_, metrics, err := r.daemon.Get(b.Context(), "/metrics")
	r.must(err)
	if !strings.Contains(metrics, fmt.Sprintf(`projectord_volumes{phase="Ready"} %d`, len(pods))) {
		b.Fatalf("not all of %d volumes are ready", len(pods))
	}
	result(b, "footprint",
		fig("volumes", "%.0f", float64(len(pods))), fig("namespaces", "%.0f", namespaces), fig("objects", "%.0f", float64(objects)),
		fig("rss_mib", "%.0f", r.rssMiB()).atMost(maxMiB), fig("cpu_seconds", "%.2f", cpu).within(0.1),
		fig("goroutines", "%.0f", metric(b, metrics, "go_goroutines")), fig("fds", "%.0f", metric(b, metrics, "process_open_fds")))
}

// postWithConfigMap creates a Pod whose volume also has a ConfigMap of its own.
func (r *rig) postWithConfigMap(ns, name string) *corev1.Pod {
	r.Helper()
	_, err := r.client.CoreV1().ConfigMaps(ns).Create(r.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"a-key": "value"}}, metav1.CreateOptions{})
	r.must(err)
	configMap := func(name string) corev1.VolumeProjection {
		return corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
	}
	return r.postWithSources(ns, name, configMap("kube-root-ca.crt"), configMap(name))
}

// postWithSources creates a Pod with a volume of its own: a token, and these.
func (r *rig) postWithSources(ns, name string, sources ...corev1.VolumeProjection) *corev1.Pod {
	r.Helper()
	no := false
	token := corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}
	pod, err := r.client.CoreV1().Pods(ns).Create(r.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Spec: corev1.PodSpec{
			NodeName: nodeName, AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{Name: "c", Image: "none", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: append([]corev1.VolumeProjection{token}, sources...),
			}}}},
		},
	}, metav1.CreateOptions{})
	r.must(err)
	return pod
}

// cpuSeconds is the daemon's CPU time so far (proc(5), stat, in ticks of 10 ms).
func (r *rig) cpuSeconds() float64 {
	r.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.daemon.PID()))
	r.must(err)
	// Behind the program's name in parentheses, utime and stime are the 12th
	// and 13th.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks float64
	for _, f := range fields[11:13] {
		v, err := strconv.ParseFloat(f, 64)
		r.must(err)
		ticks += v
	}
	return ticks / 100
}

func (r *rig) rssMiB() float64 {
	r.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.daemon.PID()))
	r.must(err)
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		r.Fatal("no VmRSS in /proc")
	}
	kib, err := strconv.ParseFloat(string(found[1]), 64)
	r.must(err)
	return kib / 1024
}

// metric is the value of a metric without labels.
func metric(b *testing.B, metrics, name string) float64 {
	b.Helper()
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics)
	if found == nil {
		b.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}
