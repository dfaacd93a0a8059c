package payload

import (
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

type trustBundleSource struct {
	*corev1.ClusterTrustBundleProjection
}

func (trustBundleSource) kind() string { return "clusterTrustBundle" }

func (trustBundleSource) need(n *Needs) { n.TrustBundles = true }

func (s trustBundleSource) build(in *Inputs, d defaults) ([]atomicdir.File, error) {
	if in.TrustBundles == nil {
		return nil, errNotFetched
	}
	if in.TrustBundles.Err != nil {
		return nil, fmt.Errorf("%s: %w", s.what(), in.TrustBundles.Err)
	}
	bundles, err := s.choose(in.TrustBundles.Value)
	if err != nil {
		return nil, err
	}
	if len(bundles) == 0 && (s.Optional == nil || !*s.Optional) {
		return nil, fmt.Errorf("%s: there is none; create it, or mark the source as optional", s.what())
	}
	return []atomicdir.File{d.credential(s.Path, trustAnchors(bundles))}, nil
}

// what is what the source names.
func (s trustBundleSource) what() string {
	switch {
	case s.Name != nil:
		return fmt.Sprintf("ClusterTrustBundle %q", *s.Name)
	case s.SignerName != nil:
		return fmt.Sprintf("ClusterTrustBundles of signer %q that match the label selector %s", *s.SignerName, metav1.FormatLabelSelector(s.LabelSelector))
	}
	return "ClusterTrustBundle"
}

// choose returns the bundles that the source names. A signer without a label
// selector matches nothing, one with an empty selector everything of it.
func (s trustBundleSource) choose(all []*certificatesv1.ClusterTrustBundle) ([]*certificatesv1.ClusterTrustBundle, error) {
	if s.Name == nil && s.SignerName == nil {
		return nil, errors.New("neither name nor signerName is set")
	}
	selector, err := metav1.LabelSelectorAsSelector(s.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("label selector: %w", err)
	}
	var chosen []*certificatesv1.ClusterTrustBundle
	for _, b := range all {
		if s.Name != nil && b.Name == *s.Name ||
			s.Name == nil && b.Spec.SignerName == *s.SignerName && selector.Matches(labels.Set(b.Labels)) {
			chosen = append(chosen, b)
		}
	}
	return chosen, nil
}

// trustAnchors are the certificates of all bundles, each once. The kubelet
// shuffles them, so that nobody relies on their order; these are sorted by
// their bytes, so that the file changes only when they do.
func trustAnchors(bundles []*certificatesv1.ClusterTrustBundle) []byte {
	anchors := map[string]bool{}
	for _, b := range bundles {
		rest := []byte(b.Spec.TrustBundle)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			anchors[string(block.Bytes)] = true
		}
	}
	out := []byte{}
	for _, der := range slices.Sorted(maps.Keys(anchors)) {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)})...)
	}
	return out
}
