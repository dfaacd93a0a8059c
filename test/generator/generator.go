// Package generator makes random Pods with a projected volume, from all that
// an API server may accept, and knows what must become of each. The same seed
// makes the same Pods.
package generator

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Empty stands for the content of a file that has none.
const Empty = "(empty)"

// What the Pods refer to, and must exist: a ConfigMap and a Secret of this
// name, each with Key and Content, and a ClusterTrustBundle of this name.
const (
	Object  = "generated"
	Key     = "k"
	Content = "v"
)

// VolumeName and MountPath are those of each Pod's volume.
const (
	VolumeName = "v"
	MountPath  = "/v"
)

// Case is one Pod and what its volume must hold.
type Case struct {
	Spec corev1.PodSpec
	// Files by the path as the Pod gives it. A token has the content "".
	Files map[string]string
	// Absent says that a source names what does not exist.
	Absent bool
}

// generator draws one case.
type generator struct {
	*rand.Rand
	Case
	namespace, bundle string
}

// New draws the n-th case of a seed. bundle is the trust bundle's content.
func New(seed, n uint64, namespace, bundle string) Case {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, n)), namespace: namespace, bundle: bundle}
	g.Files = map[string]string{"token": ""}
	sources := []corev1.VolumeProjection{g.token("token")}
	for range 1 + g.IntN(5) {
		sources = append(sources, g.source())
	}
	no := false
	container := corev1.Container{
		Name: "c", Image: "none", VolumeMounts: []corev1.VolumeMount{{Name: VolumeName, MountPath: MountPath}},
		Resources: corev1.ResourceRequirements{
			Limits: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
			},
			// Little, or a kubelet would refuse what a small node has no room for.
			Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("1Mi"),
			},
		},
	}
	g.Spec = corev1.PodSpec{
		AutomountServiceAccountToken: &no,
		Volumes: []corev1.Volume{{Name: VolumeName, VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{DefaultMode: g.mode(), Sources: sources},
		}}},
	}
	for i := range g.IntN(3) {
		name := fmt.Sprint("inner-", i)
		g.Spec.Volumes = append(g.Spec.Volumes, corev1.Volume{Name: name,
			VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		container.VolumeMounts = append(container.VolumeMounts,
			corev1.VolumeMount{Name: name, MountPath: MountPath + []string{"/", "/deep/er/"}[g.IntN(2)] + name})
	}
	if g.IntN(3) == 0 {
		user := int64(g.IntN(3)) * 1000
		container.SecurityContext = &corev1.SecurityContext{RunAsUser: &user}
	}
	if g.IntN(3) == 0 {
		group := int64(2000)
		g.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	}
	g.Spec.Containers = []corev1.Container{container}
	return g.Case
}

// paths that the API server accepts, or some version of it did.
var paths = []string{
	"a", "b", "a/b", "a//b", "a/./c", "./d", "d/", "a/..e", "...f", ".g", "dir/sub/file", "with space", "ünï", strings.Repeat("n", 255),
	"..h", "../i", "/j", ".", "..data", "./..data", "k\nl",
}

func (g *generator) path() string {
	if g.IntN(8) == 0 {
		return paths[g.IntN(len(paths))]
	}
	return fmt.Sprintf("file-%d", g.IntN(40))
}

func (g *generator) optional() *bool {
	yes := g.IntN(2) == 0
	return &yes
}

func (g *generator) mode() *int32 {
	if g.IntN(2) == 0 {
		return nil
	}
	mode := int32(g.IntN(01000))
	return &mode
}

func (g *generator) token(p string) corev1.VolumeProjection {
	g.Files[p] = ""
	seconds := int64(600 + g.IntN(1<<20))
	return corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
		Audience:          []string{"", "vault", "ünï code", strings.Repeat("a", 200)}[g.IntN(4)],
		ExpirationSeconds: &seconds, Path: p,
	}}
}

// items of the object.
func (g *generator) items(optional *bool) (items []corev1.KeyToPath) {
	for range g.IntN(3) {
		item := corev1.KeyToPath{Key: []string{Key, "none"}[g.IntN(8)/7], Path: g.path(), Mode: g.mode()}
		items = append(items, item)
		switch {
		case item.Key == Key:
			g.Files[item.Path] = Content
		case !*optional:
			g.Absent = true
		}
	}
	if len(items) == 0 {
		g.Files[Key] = Content
	}
	return items
}

// object names the object, or one that does not exist.
func (g *generator) object(optional *bool) (ref corev1.LocalObjectReference, items []corev1.KeyToPath) {
	if !g.exists(optional) {
		return corev1.LocalObjectReference{Name: "absent"}, nil
	}
	return corev1.LocalObjectReference{Name: Object}, g.items(optional)
}

func (g *generator) exists(optional *bool) bool {
	exists := g.IntN(10) > 0
	g.Absent = g.Absent || !exists && !*optional
	return exists
}

func (g *generator) source() (s corev1.VolumeProjection) {
	optional := g.optional()
	switch g.IntN(5) {
	case 0:
		return g.token(g.path())
	case 1:
		ref, items := g.object(optional)
		s.ConfigMap = &corev1.ConfigMapProjection{LocalObjectReference: ref, Items: items, Optional: optional}
	case 2:
		ref, items := g.object(optional)
		s.Secret = &corev1.SecretProjection{LocalObjectReference: ref, Items: items, Optional: optional}
	case 3:
		s.DownwardAPI = &corev1.DownwardAPIProjection{}
		for range 1 + g.IntN(2) {
			s.DownwardAPI.Items = append(s.DownwardAPI.Items, g.downward())
		}
	case 4:
		name, p := Object, g.path()
		g.Files[p] = g.bundle
		if !g.exists(optional) {
			name, g.Files[p] = "absent", Empty // the file is there all the same
		}
		s.ClusterTrustBundle = &corev1.ClusterTrustBundleProjection{Name: &name, Optional: optional, Path: p}
	}
	return s
}

func (g *generator) downward() corev1.DownwardAPIVolumeFile {
	item := corev1.DownwardAPIVolumeFile{Path: g.path(), Mode: g.mode()}
	clean := path.Clean(item.Path) // of this source's paths, two spellings are one
	if g.IntN(2) == 0 {
		item.FieldRef = &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}
		g.Files[clean] = g.namespace
		return item
	}
	draw := []struct{ resource, divisor, want string }{
		{"limits.cpu", "", "2"}, {"limits.cpu", "1m", "1500"}, {"limits.memory", "1Mi", "64"},
		{"limits.memory", "1k", "67109"}, {"requests.ephemeral-storage", "", "0"},
	}[g.IntN(5)]
	item.ResourceFieldRef = &corev1.ResourceFieldSelector{ContainerName: "c", Resource: draw.resource}
	if draw.divisor != "" {
		item.ResourceFieldRef.Divisor = resource.MustParse(draw.divisor)
	}
	g.Files[clean] = draw.want
	return item
}

// Pod is the case's Pod.
func (c Case) Pod(namespace, name, node string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: *c.Spec.DeepCopy()}
	pod.Spec.NodeName = node
	return pod
}

// Writable says whether the volume can be published: all that it names exists,
// no two files are at one place, and none where another needs a directory.
func (c Case) Writable() bool {
	clean := map[string]bool{}
	for p := range c.Files {
		cleaned := path.Clean(p)
		if clean[cleaned] || cleaned == "." || strings.HasPrefix(cleaned, "..") || strings.HasPrefix(p, "/") {
			return false
		}
		clean[cleaned] = true
	}
	for cleaned := range clean {
		for dir := path.Dir(cleaned); dir != "."; dir = path.Dir(dir) {
			if clean[dir] {
				return false
			}
		}
	}
	return !c.Absent
}
