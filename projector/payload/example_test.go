package payload_test

import (
	"context"
	"fmt"
	"log"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

// From a Pod to the files of its volumes.
func Example() {
	seconds := int64(3600)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-0", UID: "0a1b2c3d"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "cart",
			Containers: []corev1.Container{{
				Name:         "main",
				VolumeMounts: []corev1.VolumeMount{{Name: "access", MountPath: "/access"}},
			}},
			Volumes: []corev1.Volume{{Name: "access", VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
				}},
			}}},
		},
	}
	tokens, err := rotation.NewManager(&rotationtest.Minter{}, rotation.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}

	for _, volume := range payload.Volumes(pod) {
		inputs := &payload.Inputs{
			Pod:        pod,
			Tokens:     map[payload.TokenSpec]payload.Fetched[rotation.Grant]{},
			ConfigMaps: map[string]payload.Fetched[*corev1.ConfigMap]{},
		}
		needs := volume.Needs()
		for _, spec := range needs.Tokens {
			grant, _, err := tokens.Get(context.Background(), payload.TokenRequest(pod, spec))
			if !grant.Token.IsZero() {
				err = nil // an old token that is valid beats none
			}
			inputs.Tokens[spec] = payload.Fetched[rotation.Grant]{Value: grant, Err: err}
		}
		for _, name := range needs.ConfigMaps {
			found, err := configMap(pod.Namespace, name)
			inputs.ConfigMaps[name] = payload.Fetched[*corev1.ConfigMap]{Value: found, Err: err}
		}
		// Secrets, TrustBundles and Allocatable in the same way.

		files, failed := volume.Build(inputs)
		for _, err := range failed {
			log.Print(err)
		}
		for _, file := range files {
			fmt.Println(volume.Name, file.Path, file.Mode)
		}
	}
	// Output:
	// access color -rw-r--r--
	// access token -rw-r--r--
}

// configMap stands for a request to the API server.
func configMap(namespace, name string) (*corev1.ConfigMap, error) {
	if name != "settings" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data:       map[string]string{"color": "blue"},
	}, nil
}

// A source that fails takes nothing from the others.
func ExampleVolume_Build_sourceError() {
	volume := payload.Volume{Name: "access", Source: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}},
		}}},
	}}}
	files, failed := volume.Build(&payload.Inputs{
		Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "cart-0"}},
		ConfigMaps: map[string]payload.Fetched[*corev1.ConfigMap]{
			// What the API server answered, as it is: whether the object is absent or
			// something else went wrong makes a difference for optional sources.
			"absent": {Err: apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "absent")},
		},
	})
	for _, file := range files {
		fmt.Printf("%s: %s\n", file.Path, file.Data)
	}
	for _, source := range failed {
		fmt.Println("source", source.Index, "of kind", source.Kind, "failed")
		fmt.Println("because it is not there:", apierrors.IsNotFound(source))
	}
	// Output:
	// name: cart-0
	// source 0 of kind configMap failed
	// because it is not there: true
}

// An inline CSI volume says in its attributes what a projected volume says in the Pod's spec.
func ExampleFromAttributes() {
	source, err := payload.FromAttributes(map[string]string{
		"defaultMode": "0400",
		"sources": `
- serviceAccountToken:
    path: vault/token
    audience: vault
    expirationSeconds: 600
`,
	})
	if err != nil {
		log.Fatal(err)
	}
	volume := payload.Volume{Name: "vault", Source: source}
	for path, spec := range volume.TokenPaths() {
		fmt.Println(path, "is for", spec.Audience, "and lasts", spec.ExpirationSeconds, "s")
	}

	// Without attributes it is the volume that each Pod gets for the API server.
	source, err = payload.FromAttributes(nil)
	if err != nil {
		log.Fatal(err)
	}
	needs := payload.Volume{Name: "api", Source: source}.Needs()
	fmt.Println(needs.Tokens[0].ExpirationSeconds, needs.ConfigMaps)

	_, err = payload.FromAttributes(map[string]string{"sources": "- serviceAccountToken: {}"})
	fmt.Println(err)
	// Output:
	// vault/token is for vault and lasts 600 s
	// 3607 [kube-root-ca.crt]
	// volumeAttributes: sources[0]: serviceAccountToken.path is required
}
