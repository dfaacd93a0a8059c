//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/node"
)

// probeImage has the program of the directory probe.
const probeImage = "localhost/token-projector-probe:test"

// limits are the findings of a Pod with the capabilities CHOWN, FOWNER and
// DAC_OVERRIDE and the runtime's own seccomp profile, where they are not "ok".
// Without FSETID a chmod drops the setgid bit where the group is not the process's
// own, silently, and a chgrp drops it from a file.
var limits = map[string]string{
	"mounting a tmpfs": "operation not permitted",
	"setgid of a directory, after chgrp to a foreign group":           "mode 0750, group 4321",
	"setgid of a directory, before chgrp to a foreign group":          "mode 2750, group 4321",
	"setgid of a file, after chgrp to a foreign group":                "mode 0750, group 4321",
	"setgid of a file, before chgrp to a foreign group":               "mode 0750, group 4321",
	"writing beside the kubelet's pod-resources, which are read-only": "open /var/lib/kubelet/pod-resources/new: read-only file system",
	"writing to the root directory":                                   "open /new: read-only file system",
}

// TestSmoke shows that a DaemonSet runs here as on any cluster.
func TestSmoke(t *testing.T) {
	r := newRig(t)
	const selfReview = "create selfsubjectreviews"
	before := r.service.Requests()[selfReview]
	r.apply("testdata/probe", imageOverride{Name: "example.invalid/probe", NewName: "localhost/token-projector-probe", NewTag: "test"})
	r.rollout("probe", "probe")
	pod := r.podOf("probe", "app=probe")
	if owner := metav1.GetControllerOf(pod); owner == nil || owner.Kind != "DaemonSet" {
		t.Errorf("the Pod's owner is %v", owner)
	}
	events := r.run("get", "events", "--namespace=probe", "--field-selector=reason=Scheduled", "--output=wide")
	if !strings.Contains(events, "default-scheduler") {
		t.Errorf("no scheduler bound the Pod: %s", events)
	}
	if !strings.HasPrefix(pod.Status.PodIP, "10.244.0.") || pod.Status.HostIP != node.IP {
		t.Errorf("the Pod has address %s on host %s", pod.Status.PodIP, pod.Status.HostIP)
	}

	report := r.report(pod)
	const name = "system:serviceaccount:probe:probe"
	if report.User.Username != name || !slices.Contains(report.User.Extra["authentication.kubernetes.io/pod-uid"], string(pod.UID)) {
		t.Errorf("the Pod is %+v", report.User)
	}
	if report.Host != "https://"+devcluster.ServiceIP+":443" {
		t.Errorf("the Pod reaches the API server at %s", report.Host)
	}
	if n := r.service.Requests()[selfReview] - before; n != 1 {
		t.Errorf("%d requests for its own name by way of the service IP, want 1", n)
	}
	for _, what := range slices.Sorted(maps.Keys(report.Status)) {
		fmt.Printf("FINDING %s: %s\n", what, report.Status[what])
	}
	for _, what := range slices.Sorted(maps.Keys(report.Findings)) {
		fmt.Printf("FINDING %s: %s\n", what, report.Findings[what])
		want, limited := limits[what]
		if !limited {
			want = "ok"
		}
		if report.Findings[what] != want {
			t.Errorf("%s: %s, want %s", what, report.Findings[what], want)
		}
	}
	if log := r.logs("probe", pod.Name, "probe"); !strings.Contains(log, "I am "+name) {
		t.Errorf("the container's log is %q", log)
	}
	tokens, err := filepath.Glob("/var/lib/kubelet/pods/" + string(pod.UID) + "/volumes/kubernetes.io~projected/kube-api-access-*/token")
	r.must(err)
	if len(tokens) != 1 || strings.Count(r.hostFile(tokens[0]), ".") != 2 {
		t.Errorf("the kubelet's token files on the host: %q", tokens)
	}
}

// report is what the probe has found.
func (r *rig) report(pod *corev1.Pod) (report struct {
	Host             string
	User             authenticationv1.UserInfo
	Status, Findings map[string]string
}) {
	r.Helper()
	response, err := http.Get("http://" + pod.Status.PodIP + ":8080/report")
	r.must(err)
	defer func() { _ = response.Body.Close() }()
	r.must(json.NewDecoder(response.Body).Decode(&report))
	return report
}
