package projector_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// A program that publishes the volume of one Pod, and reads it back.
func Example() {
	root, err := os.MkdirTemp("", "root-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(root) }()

	pod := newPod()
	tokens, err := rotation.NewManager(&rotationtest.Minter{}, rotation.DefaultPolicy())
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := projector.New(projector.Config{
		Root:    root,
		Cluster: cluster{pod.UID: pod},
		Tokens:  tokens,
		Logger:  slog.New(slog.DiscardHandler),
		Medium:  projector.MediumDirectory, // MediumTmpfs needs the right to mount
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Println(err)
		}
	}()

	p.Enqueue(pod) // for each event of a watch

	// Who can't go on without the volume, as a runtime that starts the Pod, asks
	// for it and waits.
	key := projector.Key{PodUID: pod.UID, Volume: "access"}
	if err := p.Publish(key); err != nil {
		fmt.Println(err)
		return
	}
	waiting, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := p.Await(waiting, key); err != nil {
		fmt.Println(err)
		return
	}

	status, ok := p.Volume(key)
	if !ok {
		fmt.Println("it is gone again")
		return
	}
	fmt.Println(status.Phase, len(status.Tokens), "token")

	// status.Path is the directory to mount in containers. This is what is in it:
	content, err := p.Content(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, file := range content.Files {
		fmt.Println(file.Path, file.Mode)
	}
	// Output:
	// Ready 1 token
	// namespace -rw-r--r--
	// token -rw-r--r--
}

// newPod is a Pod as a watch of the API server shows it.
func newPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-0", UID: "0a1b2c3d"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "cart",
			Containers: []corev1.Container{{
				Name:         "main",
				VolumeMounts: []corev1.VolumeMount{{Name: "access", MountPath: "/access"}},
			}},
			Volumes: []corev1.Volume{{Name: "access", VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
					{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
						{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
					}}},
				}},
			}}},
		},
	}
}

// cluster has Pods that never change, and nothing else. Package kube has the
// Cluster that asks an API server.
type cluster map[types.UID]*corev1.Pod

func (c cluster) Pod(uid types.UID) *corev1.Pod { return c[uid] }

func (cluster) ConfigMap(_ context.Context, _ projector.Key, _, name string) (*corev1.ConfigMap, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (cluster) Secret(_ context.Context, _ projector.Key, _, name string) (map[string][]byte, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func (cluster) TrustBundles(context.Context, projector.Key) ([]*certificatesv1.ClusterTrustBundle, error) {
	return nil, nil
}

func (cluster) Allocatable(context.Context) (corev1.ResourceList, error) { return nil, nil }

func (cluster) Event(projector.PodRef, projector.Event) {}

func (cluster) Release(projector.Key) {}

// ConfirmGone must be right: the volume of a Pod that is gone is removed.
func (c cluster) ConfirmGone(_ context.Context, pod projector.PodRef) (bool, error) {
	return c[pod.UID] == nil, nil
}

func (cluster) NodeUID() string { return "" }

func (cluster) ServerTime() (now time.Time, known bool) { return time.Time{}, false }
