package referee

import (
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TokenFiles are the token files that a Pod should have below a root directory
// in the kubelet's layout, by its spec as the API server returned it.
func TokenFiles(pod *corev1.Pod, root string) []File {
	var files []File
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			t := s.ServiceAccountToken
			if t == nil {
				continue
			}
			f := File{
				Path:    filepath.Join(root, "pods", string(pod.UID), "volumes", "kubernetes.io~projected", v.Name, t.Path),
				User:    "system:serviceaccount:" + pod.Namespace + ":" + pod.Spec.ServiceAccountName,
				PodName: pod.Name, PodUID: string(pod.UID), Audience: t.Audience,
			}
			if t.ExpirationSeconds != nil {
				f.Lifetime = time.Duration(*t.ExpirationSeconds) * time.Second
			}
			files = append(files, f)
		}
	}
	return files
}
