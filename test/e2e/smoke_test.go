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

// findings are what a Pod with three capabilities may do, where that is not "ok".
var findings = map[string]string{}

// TestSmoke shows that the rig is one on which a DaemonSet runs as on any cluster.
func TestSmoke(t *testing.T) {
	r := newRig(t)
	r.must(r.node.Import(r.ctx, filepath.Join(r.machine.Dir, "probe.tar")))
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
	want := authenticationv1.UserInfo{Username: "system:serviceaccount:probe:probe"}
	if report.User.Username != want.Username || !slices.Contains(report.User.Extra["authentication.kubernetes.io/pod-uid"], string(pod.UID)) {
		t.Errorf("the Pod is %+v", report.User)
	}
	if report.Host != "https://"+devcluster.ServiceIP+":443" {
		t.Errorf("the Pod reaches the API server at %s", report.Host)
	}
	if n := r.service.Requests()["create selfsubjectreviews"]; n != 1 {
		t.Errorf("%d requests for its own name by way of the service IP, want 1", n)
	}
	for _, what := range slices.Sorted(maps.Keys(report.Status)) {
		fmt.Printf("FINDING %s: %s\n", what, report.Status[what])
	}
	for _, what := range slices.Sorted(maps.Keys(report.Findings)) {
		fmt.Printf("FINDING %s: %s\n", what, report.Findings[what])
	}
	if log := r.logs("probe", pod.Name, "probe"); !strings.Contains(log, "I am "+want.Username) {
		t.Errorf("the container's log is %q", log)
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
