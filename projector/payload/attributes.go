package payload

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Names of the attributes of an inline CSI volume.
const (
	// AttributeSources is a list of sources in YAML, as in a projected volume.
	AttributeSources = "sources"
	// AttributeDefaultMode is the mode of files, in octal, as 0400.
	AttributeDefaultMode = "defaultMode"
	// kubeletAttributes begins those that a kubelet adds (KEP-603).
	kubeletAttributes = "csi.storage.k8s.io/"
)

// injectedExpirationSeconds is what the ServiceAccount admission plugin asks for
// (plugin/pkg/admission/serviceaccount).
const injectedExpirationSeconds = 3607

// RootCAConfigMap is the ConfigMap with the cluster's CA, which is in each namespace
// (KEP-1205).
const RootCAConfigMap = "kube-root-ca.crt"

// FromAttributes turns the attributes of an inline CSI volume into the projected
// volume that they describe. Without sources it is the one that is injected into
// every Pod: token, ca.crt and namespace. It validates what the API server does
// for a projected volume; an error names the field. It may be called
// concurrently.
func FromAttributes(attributes map[string]string) (*corev1.ProjectedVolumeSource, error) {
	out := &corev1.ProjectedVolumeSource{}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		var err error
		switch {
		case name == AttributeSources:
			out.Sources, err = parseSources(attributes[name])
		case name == AttributeDefaultMode:
			out.DefaultMode, err = parseMode(attributes[name])
		case strings.HasPrefix(name, kubeletAttributes):
		default:
			err = fmt.Errorf("volumeAttributes: unknown attribute %q: want %s or %s", name, AttributeSources, AttributeDefaultMode)
		}
		if err != nil {
			return nil, err
		}
	}
	if _, given := attributes[AttributeSources]; !given {
		out.Sources = injectedSources()
	}
	return out, nil
}

// injectedSources are those of the volume kube-api-access.
func injectedSources() []corev1.VolumeProjection {
	seconds := int64(injectedExpirationSeconds)
	return []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}},
		{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: RootCAConfigMap},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
		}}},
	}
}

func parseMode(text string) (*int32, error) {
	mode, err := strconv.ParseInt(text, 8, 32)
	if err != nil || mode < 0 || mode > 0777 {
		return nil, fmt.Errorf("volumeAttributes: %s %q: want an octal number from 0000 to 0777", AttributeDefaultMode, text)
	}
	m := int32(mode)
	return &m, nil
}

func parseSources(text string) ([]corev1.VolumeProjection, error) {
	var sources []corev1.VolumeProjection
	if err := yaml.UnmarshalStrict([]byte(text), &sources); err != nil {
		return nil, fmt.Errorf("volumeAttributes: %s: want a list of sources, as in a projected volume: %w", AttributeSources, err)
	}
	hasToken := false
	for i := range sources {
		if err := checkSource(&sources[i]); err != nil {
			return nil, fmt.Errorf("volumeAttributes: %s[%d]: %w", AttributeSources, i, err)
		}
		hasToken = hasToken || sources[i].ServiceAccountToken != nil
	}
	if !hasToken {
		return nil, fmt.Errorf("volumeAttributes: %s: want at least one serviceAccountToken; for other volumes use a projected volume", AttributeSources)
	}
	return sources, nil
}

// checkSource does for one source what the API server does
// (pkg/apis/core/validation).
func checkSource(p *corev1.VolumeProjection) error {
	kinds := 0
	for _, set := range []bool{
		p.ServiceAccountToken != nil, p.ConfigMap != nil, p.Secret != nil, p.DownwardAPI != nil,
		p.ClusterTrustBundle != nil, p.PodCertificate != nil,
	} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("want exactly one of serviceAccountToken, configMap, secret, downwardAPI and clusterTrustBundle, not %d", kinds)
	}
	switch {
	case p.ServiceAccountToken != nil:
		return checkToken(p.ServiceAccountToken)
	case p.ConfigMap != nil:
		return checkObject("configMap", p.ConfigMap.Name, p.ConfigMap.Items)
	case p.Secret != nil:
		return checkObject("secret", p.Secret.Name, p.Secret.Items)
	case p.DownwardAPI != nil:
		return checkDownward(p.DownwardAPI)
	case p.ClusterTrustBundle != nil:
		return checkTrustBundle(p.ClusterTrustBundle)
	}
	return errors.New("podCertificate is not supported: use a projected volume, which the kubelet serves")
}

func checkToken(t *corev1.ServiceAccountTokenProjection) error {
	if s := t.ExpirationSeconds; s != nil && (*s < 600 || *s > 1<<32) {
		return fmt.Errorf("serviceAccountToken.expirationSeconds %d: want from 600 to 2^32", *s)
	}
	return checkPath("serviceAccountToken.path", t.Path)
}

func checkObject(kind, name string, items []corev1.KeyToPath) error {
	if name == "" {
		return fmt.Errorf("%s.name is required", kind)
	}
	for i := range items {
		where := fmt.Sprintf("%s.items[%d]", kind, i)
		if items[i].Key == "" {
			return fmt.Errorf("%s.key is required", where)
		}
		if err := errors.Join(checkPath(where+".path", items[i].Path), checkMode(where+".mode", items[i].Mode)); err != nil {
			return err
		}
	}
	return nil
}

func checkDownward(d *corev1.DownwardAPIProjection) error {
	for i := range d.Items {
		item := &d.Items[i]
		where := fmt.Sprintf("downwardAPI.items[%d]", i)
		if err := errors.Join(checkPath(where+".path", item.Path), checkMode(where+".mode", item.Mode)); err != nil {
			return err
		}
		switch {
		case (item.FieldRef == nil) == (item.ResourceFieldRef == nil):
			return fmt.Errorf("%s: want either fieldRef or resourceFieldRef", where)
		case item.FieldRef != nil:
			if _, err := podField(&corev1.Pod{}, item.FieldRef.FieldPath); err != nil {
				return fmt.Errorf("%s.fieldRef: %w", where, err)
			}
		case item.ResourceFieldRef.ContainerName == "":
			return fmt.Errorf("%s.resourceFieldRef.containerName is required", where)
		}
	}
	return nil
}

func checkTrustBundle(b *corev1.ClusterTrustBundleProjection) error {
	if (b.Name == nil) == (b.SignerName == nil) {
		return errors.New("clusterTrustBundle: want either name or signerName")
	}
	return checkPath("clusterTrustBundle.path", b.Path)
}

func checkMode(field string, mode *int32) error {
	if mode != nil && (*mode < 0 || *mode > 0777) {
		return fmt.Errorf("%s %#o: want from 0 to 0777", field, *mode)
	}
	return nil
}

// checkPath is stricter than the API server, whose kubelet is lenient: a path must
// be clean.
func checkPath(field, p string) error {
	switch {
	case p == "":
		return fmt.Errorf("%s is required", field)
	case p != path.Clean(p) || path.IsAbs(p) || p == "." || strings.HasPrefix(p, ".."):
		return fmt.Errorf("%s %q: want a relative path without empty elements, . and .., whose first element does not begin with two dots", field, p)
	}
	return nil
}

// FindCSI returns the inline volume with this name that a Pod declares for a CSI
// driver.
func FindCSI(pod *corev1.Pod, name, driver string) (Volume, bool, error) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Name != name || v.CSI == nil || v.CSI.Driver != driver {
			continue
		}
		source, err := FromAttributes(v.CSI.VolumeAttributes)
		return Volume{Name: name, Source: source}, true, err
	}
	return Volume{}, false, nil
}
