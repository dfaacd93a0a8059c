package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/test/proc"
)

// kubeletConfig is for all nodes. Nothing is evicted for a lack of what this
// machine lacks.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%[1]s
volumePluginDir: %[2]s/kubelet-plugins
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 1Mi}
readOnlyPort: 0
maxPods: 250
registerNode: true
syncFrequency: 5s
`

// bareConfig is for nodes without containers, several of which may share the
// machine with others.
const bareConfig = `
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupsPerQOS: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
address: 127.0.0.1
port: %d
healthzPort: 0
`

// fullConfig is for nodes with containers, as clusters have them. There is no DNS, and
// a container that was killed, which tests do again and again, is back in a second.
const fullConfig = `
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %q}}
authorization: {mode: Webhook}
cgroupRoot: %q
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
resolvConf: ""
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
healthzPort: 10248
`

func (c Config) kubelet(path, socket string, client kubernetes.Interface) (*proc.Component, error) {
	kubeconfig, err := c.Cluster.NodeKubeconfig(c.Name)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(kubeletConfig, socket, c.Dir)
	ip := "127.0.0.1"
	ready := func(ctx context.Context) error {
		_, err := client.CoreV1().Nodes().Get(ctx, c.Name, metav1.GetOptions{})
		return err
	}
	if c.Containers == nil {
		text += fmt.Sprintf(bareConfig, 10250+os.Getpid()%20000)
	} else {
		text += fmt.Sprintf(fullConfig, c.Cluster.CAFile(), c.Containers.Cgroup)
		ip, ready = IP, func(ctx context.Context) error { return nodeReady(ctx, client, c.Name) }
	}
	config, err := c.write("kubelet.yaml", text)
	if err != nil {
		return nil, err
	}
	return &proc.Component{
		Name: "kubelet",
		Path: path,
		Args: []string{
			"--config=" + config, "--kubeconfig=" + kubeconfig, "--hostname-override=" + c.Name, "--root-dir=" + c.RootDir,
			"--cert-dir=" + filepath.Join(c.Dir, "kubelet-pki"), "--node-ip=" + ip,
		},
		Log:   filepath.Join(c.Dir, "kubelet.log"),
		Ready: ready,
	}, nil
}

// nodeReady says whether the kubelet is healthy and its Node ready for Pods.
func nodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10248/healthz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the kubelet says %s", response.Status)
	}
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(node.Spec.Taints) > 0 {
		return fmt.Errorf("the node has taints %v", node.Spec.Taints)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if condition.Status != corev1.ConditionTrue {
			return fmt.Errorf("the node is not ready: %s", condition.Message)
		}
		return nil
	}
	return errors.New("the node has no condition yet")
}
