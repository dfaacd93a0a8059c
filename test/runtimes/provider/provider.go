// Package provider is what a virtual-kubelet provider has to do with projectord, in
// docs/runtimes.md. It runs nothing itself.
package provider

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/payload"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// Provider runs Pods somewhere.
type Provider struct {
	Volumes api.VolumeServiceClient
	// Run starts a Pod's containers, with directories of this host to mount read-only,
	// by the names of volumes.
	Run func(ctx context.Context, pod *corev1.Pod, directories map[string]string) error
	// Stop ends them. It returns when nothing of the Pod runs any more.
	Stop func(ctx context.Context, pod *corev1.Pod) error
}

// CreatePod publishes the Pod's volumes and runs it. It may be called again.
func (p *Provider) CreatePod(ctx context.Context, pod *corev1.Pod) error {
	directories := map[string]string{}
	if len(payload.Volumes(pod)) > 0 { // a Pod may have opted out of tokens
		answer, err := p.Volumes.PublishVolume(ctx, &api.PublishVolumeRequest{
			Pod:       &api.PodRef{Namespace: pod.Namespace, Name: pod.Name, Uid: string(pod.UID)},
			WaitReady: true,
		})
		if err != nil {
			return fmt.Errorf("publishing the volumes of Pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		for _, v := range answer.GetVolumes() {
			directories[v.GetId().GetVolumeName()] = v.GetHostPath()
		}
	}
	return p.Run(ctx, pod, directories)
}

// DeletePod stops the Pod, and gives its volumes back only then. It may be called again.
func (p *Provider) DeletePod(ctx context.Context, pod *corev1.Pod) error {
	if err := p.Stop(ctx, pod); err != nil {
		return err
	}
	for _, v := range payload.Volumes(pod) {
		_, err := p.Volumes.UnpublishVolume(ctx, &api.UnpublishVolumeRequest{
			Id: &api.VolumeId{PodUid: string(pod.UID), VolumeName: v.Name},
		})
		if err != nil {
			return fmt.Errorf("unpublishing volume %s of Pod %s/%s: %w", v.Name, pod.Namespace, pod.Name, err)
		}
	}
	return nil
}
