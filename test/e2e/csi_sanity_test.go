//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCSISanity runs the suite of CSI's own authors on the driver's socket.
func TestCSISanity(t *testing.T) {
	r := newRig(t)
	pod := r.csiIdlePod("sanity", "suite")
	k := &asKubelet{pod: pod, volume: "suite"}

	config := sanity.NewTestConfig()
	config.Address = driverSocket
	config.DialOptions = append(config.DialOptions, grpc.WithUnaryInterceptor(k.call))
	config.StagingPath = ""
	config.TargetPath = filepath.Dir(csiTarget(pod, "suite"))
	config.CreateTargetDir = func(path string) (string, error) { return path, os.MkdirAll(path, 0750) }
	config.RemoveTargetPath = func(path string) error {
		err := os.Remove(path)
		if err != nil { // the suite ignores it
			t.Errorf("something is left of a volume: %v", err)
		}
		return err
	}
	config.CheckPath = func(path string) (sanity.PathKind, error) {
		st, err := os.Stat(kubeletTarget(path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return sanity.PathIsNotFound, nil
		case err == nil && st.IsDir():
			return sanity.PathIsDir, nil
		}
		return sanity.PathIsOther, err
	}
	ended := runSanity(t, &config)
	fmt.Printf("RESULT csi_sanity passed=%d failed=%d inapplicable=%d publishes=%d\n", ended.passed, ended.failed, ended.inapplicable, k.published)
	if ended.passed == 0 || ended.failed != 0 {
		t.Errorf("%d have passed and %d failed", ended.passed, ended.failed)
	}
	if k.published <= config.IdempotentCount {
		t.Errorf("%d requests to publish have succeeded: the suite did not do its main work", k.published)
	}
	if left := r.ourMounts(); len(left) > 0 {
		t.Errorf("mounts are left: %q", left)
	}
}

// sanityEnded counts how the tests of the suite ended.
type sanityEnded struct {
	passed, failed int
	inapplicable   int // to a driver without the capabilities that they are about
}

// runSanity runs those of the suite's tests that are about the services of a node
// plugin.
func runSanity(t *testing.T, config *sanity.TestConfig) (ended sanityEnded) {
	ginkgo.ReportAfterSuite("count", func(report ginkgo.Report) {
		for _, spec := range report.SpecReports {
			switch {
			case spec.State == types.SpecStatePending, spec.State == types.SpecStateSkipped && spec.Failure.Message == "": // not chosen
			case spec.State == types.SpecStateSkipped:
				ended.inapplicable++
				t.Logf("inapplicable: %s: %s", spec.FullText(), spec.Failure.Message)
			case spec.State == types.SpecStatePassed && spec.LeafNodeType == types.NodeTypeIt:
				ended.passed++
			case spec.Failed():
				ended.failed++
			}
		}
	})
	tests := sanity.GinkgoTest(config)
	defer tests.Finalize()
	gomega.RegisterFailHandler(ginkgo.Fail)
	suite, reporter := ginkgo.GinkgoConfiguration()
	suite.FocusStrings = []string{"Identity Service", "Node Service"}
	reporter.NoColor = true
	ginkgo.RunSpecs(t, "csi-sanity", suite, reporter)
	return ended
}

// asKubelet makes the suite's requests those of a kubelet, on their way to the driver.
// The suite has volumes of a controller; ours are declared by a Pod. So it plays the
// controller, without which the suite would publish nothing, and adds what a kubelet
// knows of the Pod and its volume. What is wrong with a request stays wrong.
type asKubelet struct {
	pod       *corev1.Pod
	volume    string
	published int
}

func (k *asKubelet) call(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	switch q := request.(type) {
	case *csi.CreateVolumeRequest:
		reply.(*csi.CreateVolumeResponse).Volume = &csi.Volume{VolumeId: q.GetName(), VolumeContext: podContext(k.pod)}
		return nil
	case *csi.DeleteVolumeRequest, *csi.ControllerGetCapabilitiesRequest:
		return nil
	case *csi.NodePublishVolumeRequest:
		q.TargetPath, q.Readonly = kubeletTarget(q.TargetPath), true
	case *csi.NodeUnpublishVolumeRequest:
		q.TargetPath = kubeletTarget(q.TargetPath)
	}
	if err := invoke(ctx, method, request, reply, conn, opts...); err != nil {
		return err
	}
	switch a := reply.(type) {
	case *csi.GetPluginCapabilitiesResponse:
		a.Capabilities = append(a.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
			Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE},
		}})
	case *csi.NodePublishVolumeResponse:
		k.published++
	}
	return nil
}

// kubeletTarget is where a kubelet wants a volume, as against the suite.
func kubeletTarget(path string) string {
	if dir, ok := strings.CutSuffix(path, "/target"); ok {
		return dir + "/mount"
	}
	return path
}

// csiIdlePod installs the driver and runs a Pod that declares volumes of it which no
// container mounts: a kubelet leaves those alone (pkg/kubelet/volumemanager/populator),
// so that the test may play the kubelet for them.
func (r *rig) csiIdlePod(name string, volumes ...string) *corev1.Pod {
	r.Helper()
	r.namespace("csi-" + name)
	r.apply(filepath.Join(repository, "deploy/daemonset"))
	r.rollout(namespace, namespace)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "csi-" + name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: workloadImage}}},
	}
	for _, volume := range volumes {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
			CSI: &corev1.CSIVolumeSource{Driver: driverName, ReadOnly: new(true)},
		}})
	}
	pod = r.runPod(pod)
	for _, volume := range volumes {
		if _, err := os.Stat(filepath.Dir(csiTarget(pod, volume))); !errors.Is(err, fs.ErrNotExist) {
			r.Fatalf("the kubelet has made volume %q, which no container mounts: %v", volume, err)
		}
	}
	return pod
}
