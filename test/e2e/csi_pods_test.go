//go:build e2e

package e2e

import (
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/referee"
)

// consumerImage has the program of the directory consumer.
const consumerImage = "localhost/token-projector-consumer:test"

// csiUser is whose tokens the Pods have.
const csiUser = "system:serviceaccount:csi:default"

// inClusterVolume is where a stock client looks for its token.
const inClusterVolume = "/var/run/secrets/kubernetes.io/serviceaccount"

// csiShapes are Pods as they are written for a volume of the driver. None of them
// has the kubelet's token, but those whose volume is compared.
func csiShapes() []*corev1.Pod {
	inCluster := consuming("in-cluster", nil)
	c := &inCluster.Spec.Containers[0]
	c.Args = []string{csiUser}
	c.VolumeMounts[0].MountPath = inClusterVolume

	group := beside(consuming("group", nil))
	group.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)), FSGroup: new(int64(4321)),
	}
	// A user can read what is of mode 0400 if it is a token, which becomes its own.
	private := beside(consuming("private", map[string]string{payload.AttributeDefaultMode: "0400", payload.AttributeSources: `
- serviceAccountToken: {path: token}
- downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
- configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt, mode: 0444}]}`}))
	private.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1234)), RunAsGroup: new(int64(1234))}

	shared := consuming("shared", nil)
	second := shared.Spec.Containers[0]
	second.Name = "second"
	shared.Spec.Containers = append(shared.Spec.Containers, second)

	initial := consuming("initial", nil)
	first := initial.Spec.Containers[0]
	first.Name, first.Args = "first", append([]string{"--requests=3"}, first.Args...)
	initial.Spec.InitContainers = []corev1.Container{first}

	return []*corev1.Pod{
		inCluster, group, private, shared, initial,
		idle("audience", map[string]string{payload.AttributeSources: "- serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}"}),
		consuming("audiences", map[string]string{payload.AttributeSources: `
- serviceAccountToken: {path: token}
- serviceAccountToken: {path: others/vault, audience: vault}
- serviceAccountToken: {path: others/billing, audience: billing}
- configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}`}),
	}
}

// csiWrong is a Pod with an attribute that means nothing.
func csiWrong() *corev1.Pod {
	return idle("wrong", map[string]string{payload.AttributeSources: "- serviceAccountToken: {audience: vault}"})
}

// idle is a Pod that has a volume of the driver, and does nothing.
func idle(name string, attributes map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "csi"},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken:  new(false),
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: new(int64(1)),
			Containers: []corev1.Container{{
				Name: "c", Image: workloadImage,
				VolumeMounts: []corev1.VolumeMount{{Name: "tokens", MountPath: "/tokens", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "tokens", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, ReadOnly: new(true), VolumeAttributes: attributes,
			}}}},
		},
	}
}

// consuming is one whose program uses the token.
func consuming(name string, attributes map[string]string) *corev1.Pod {
	pod := idle(name, attributes)
	c := &pod.Spec.Containers[0]
	c.Image, c.Args = consumerImage, []string{csiUser, "https://" + devcluster.ServiceIP, "/tokens"}
	return pod
}

// beside gives a Pod a volume of the kubelet with the same sources.
func beside(pod *corev1.Pod) *corev1.Pod {
	source, err := payload.FromAttributes(pod.Spec.Volumes[0].CSI.VolumeAttributes)
	if err != nil {
		panic(err) // the test's own
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "kubelet", VolumeSource: corev1.VolumeSource{Projected: source}})
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "kubelet", MountPath: "/kubelet", ReadOnly: true})
	return pod
}

// csiVolume is where a Pod's volume is on the host.
func csiVolume(pod *corev1.Pod) string { return csiTarget(pod, "tokens") }

// csiFiles are the token files of a Pod's volume.
func (r *rig) csiFiles(pod *corev1.Pod) (files []referee.File) {
	r.Helper()
	volume, declared, err := payload.FindCSI(pod, "tokens", driverName)
	r.must(err)
	if !declared {
		r.Fatalf("Pod %s has no volume of the driver", pod.Name)
	}
	for _, s := range volume.Source.Sources {
		if t := s.ServiceAccountToken; t != nil {
			files = append(files, referee.File{
				Path: filepath.Join(csiVolume(pod), t.Path), Audience: t.Audience,
				User:    "system:serviceaccount:" + pod.Namespace + ":" + pod.Spec.ServiceAccountName,
				PodName: pod.Name, PodUID: string(pod.UID),
			})
		}
	}
	return files
}
