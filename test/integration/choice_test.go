package integration

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestIdentityAndCredential: each identity with the credential that is for it, and
// with the other one.
func TestIdentityAndCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	i := w.install("base")
	pods := i.kubeconfig(i.token(i.podOn(w.node)))
	nodes := "--kubeconfig=" + w.nodeKubeconfig()
	for _, tt := range []struct{ name, kubeconfig, identity, choice, says string }{
		{"a node's, auto", nodes, "auto", "node", ""},
		{"a node's, node", nodes, "node", "node", ""},
		{"a node's, impersonate", nodes, "impersonate", "", "not of a ServiceAccount"},
		{"a node's, serviceaccount", nodes, "serviceaccount", "", "not of a ServiceAccount"},
		{"a Pod's, node", pods, "node", "", "not of node"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// A root directory of its own: they run side by side.
			own := &world{T: t, ctx: t.Context(), cluster: w.cluster, client: w.client, node: w.node, ns: w.ns, dir: t.TempDir()}
			d := own.startWith(tt.kubeconfig, "--identity="+tt.identity)
			if tt.choice == "" {
				own.waitReason(d, tt.says)
				return
			}
			own.waitReady(d)
			own.waitChoice(d, tt.choice)
		})
	}
}

// TestThiefOfANodesCredential: what somebody can do who has a node's kubeconfig, and
// the DaemonSet's Pod can't.
func TestThiefOfANodesCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared)
	i := w.install("base")
	other := w.node + "-other"
	w.createNode(other)
	here := w.create(w.newPod("here"))
	w.create(w.newPod("victim"))
	pod := w.newPod("there")
	pod.Spec.NodeName = other
	there := w.create(pod)
	cfg, err := clientcmd.BuildConfigFromFlags("", w.nodeKubeconfig())
	w.must(err)
	node, err := kubernetes.NewForConfig(cfg)
	w.must(err)
	w.eventually("the node to know its Pods", func() bool { return requestToken(node, w.ns, here)(w.ctx) == nil })
	label := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := node.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
			return err
		}
	}
	i.try([]attempt{
		{"a token for a Pod of the node", requestToken(node, w.ns, here), nil},
		{"changing the Node", label(w.node), nil},
		{"deleting a Pod of the node", func(ctx context.Context) error {
			now := int64(0)
			return node.CoreV1().Pods(w.ns).Delete(ctx, "victim", metav1.DeleteOptions{GracePeriodSeconds: &now})
		}, nil},
		{"changing another Node", label(other), apierrors.IsForbidden},
		{"a token for a Pod of another node", requestToken(node, w.ns, there), apierrors.IsForbidden},
		{"a token bound to no Pod", requestToken(node, w.ns, nil), apierrors.IsForbidden},
		{"an audience that the Pod does not declare", requestToken(node, w.ns, here, "vault"), apierrors.IsForbidden},
		{"deleting a Pod of another node", func(ctx context.Context) error {
			return node.CoreV1().Pods(w.ns).Delete(ctx, "there", metav1.DeleteOptions{})
		}, apierrors.IsForbidden},
	})
}
