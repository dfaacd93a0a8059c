package payload

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestFromAttributesWithoutSources(t *testing.T) {
	v, err := FromAttributes(map[string]string{"csi.storage.k8s.io/pod.name": "p", "defaultMode": "0400"})
	if err != nil {
		t.Fatal(err)
	}
	if *v.DefaultMode != 0400 || len(v.Sources) != 3 || *v.Sources[0].ServiceAccountToken.ExpirationSeconds != 3607 {
		t.Errorf("%+v", v)
	}
	got := Volume{Source: v}
	if needs := got.Needs(); len(needs.Tokens) != 1 || len(needs.ConfigMaps) != 1 || needs.ConfigMaps[0] != RootCAConfigMap {
		t.Errorf("it needs %+v", needs)
	}
}

const goodSources = `
- serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}
- serviceAccountToken: {path: other/token}
- configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt, mode: 256}]}
- downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}
- clusterTrustBundle: {name: b, path: roots.pem}
`

func TestFromAttributes(t *testing.T) {
	v, err := FromAttributes(map[string]string{"sources": goodSources})
	if err != nil {
		t.Fatal(err)
	}
	paths := Volume{Source: v}.TokenPaths()
	want := map[string]TokenSpec{"token": {Audience: "vault", ExpirationSeconds: 600}, "other/token": {ExpirationSeconds: 3600}}
	if !maps.Equal(paths, want) || len(v.Sources) != 5 {
		t.Errorf("tokens %v, sources %d", paths, len(v.Sources))
	}
}

// TestBadAttributes: an error names the field, for whoever reads the Pod's Events.
func TestBadAttributes(t *testing.T) {
	with := func(source string) map[string]string {
		return map[string]string{"sources": "- serviceAccountToken: {path: token}\n- " + source}
	}
	tests := []struct {
		name       string
		attributes map[string]string
		says       string
	}{
		{"unknown attribute", map[string]string{"source": "x"}, `unknown attribute "source"`},
		{"mode", map[string]string{"defaultMode": "rw"}, `defaultMode "rw"`},
		{"mode too large", map[string]string{"defaultMode": "01777"}, `defaultMode "01777"`},
		{"no YAML", map[string]string{"sources": "{"}, "sources: want a list"},
		{"no list", map[string]string{"sources": "serviceAccountToken: {path: token}"}, "sources: want a list"},
		{"empty", map[string]string{"sources": ""}, "at least one serviceAccountToken"},
		{"no token", map[string]string{"sources": "- configMap: {name: x}"}, "at least one serviceAccountToken"},
		{"unknown source", with("serviceAccountTokens: {path: t}"), `unknown field "serviceAccountTokens"`},
		{"unknown field", with("serviceAccountToken: {path: t, audiences: a}"), `unknown field "audiences"`},
		{"wrong type", with("serviceAccountToken: {path: t, expirationSeconds: soon}"), "expirationSeconds"},
		{"twice the same key", with("serviceAccountToken: {path: t, path: u}"), `"path" already set`},
		{"two kinds", with("{serviceAccountToken: {path: t}, configMap: {name: x}}"), "sources[1]: want exactly one"},
		{"no kind", with("{}"), "sources[1]: want exactly one"},
		{"podCertificate", with("podCertificate: {signerName: a/b, keyType: ED25519}"), "podCertificate is not supported"},
		{"no path", with("serviceAccountToken: {audience: a}"), "sources[1]: serviceAccountToken.path is required"},
		{"absolute path", with("serviceAccountToken: {path: /etc/passwd}"), `serviceAccountToken.path "/etc/passwd"`},
		{"parent", with("serviceAccountToken: {path: a/../../b}"), "serviceAccountToken.path"},
		{"hidden", with("serviceAccountToken: {path: ..data}"), "serviceAccountToken.path"},
		{"short", with("serviceAccountToken: {path: t, expirationSeconds: 599}"), "expirationSeconds 599"},
		{"long", with("serviceAccountToken: {path: t, expirationSeconds: 4294967297}"), "expirationSeconds 4294967297"},
		{"ConfigMap without a name", with("configMap: {}"), "configMap.name is required"},
		{"item without a key", with("secret: {name: s, items: [{path: p}]}"), "secret.items[0].key is required"},
		{"item's mode", with("configMap: {name: c, items: [{key: k, path: p, mode: 512}]}"), "configMap.items[0].mode"},
		{"no field", with("downwardAPI: {items: [{path: p}]}"), "downwardAPI.items[0]: want either"},
		{"a field that can't be", with("downwardAPI: {items: [{path: p, fieldRef: {fieldPath: spec.nodeName}}]}"), `"spec.nodeName"`},
		{"no container", with("downwardAPI: {items: [{path: p, resourceFieldRef: {resource: limits.cpu}}]}"), "containerName is required"},
		{"neither bundle nor signer", with("clusterTrustBundle: {path: p}"), "want either name or signerName"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := FromAttributes(tt.attributes)
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "volumeAttributes: ") {
				t.Errorf("error %v, want %q", err, tt.says)
			}
		})
	}
}

// FuzzFromAttributes: whatever a Pod's author writes, there is an error or a volume
// that can be built.
func FuzzFromAttributes(f *testing.F) {
	f.Add(goodSources, "0644")
	f.Add("- serviceAccountToken: {path: token}\n- configMap: null", "")
	f.Add("[null, {serviceAccountToken: {}}]", "0")
	f.Fuzz(func(_ *testing.T, sources, mode string) {
		v, err := FromAttributes(map[string]string{"sources": sources, "defaultMode": mode})
		if err != nil {
			return
		}
		volume := Volume{Name: "v", Source: v}
		volume.Needs()
		volume.Build(&Inputs{Pod: &corev1.Pod{}})
	})
}
