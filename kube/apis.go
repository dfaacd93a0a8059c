package kube

import (
	"context"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// request begins a request for objects of a kind.
func request(client rest.Interface, namespace, resource string, o *metav1.ListOptions) *rest.Request {
	return client.Get().NamespaceIfScoped(namespace, namespace != "").Resource(resource).
		VersionedParams(o, metav1.ParameterCodec)
}

// pointers are to the items of a list.
func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}

// configMapAPI gets whole ConfigMaps.
type configMapAPI struct{ client rest.Interface }

func (a configMapAPI) list(ctx context.Context, namespace string, o *metav1.ListOptions) ([]*corev1.ConfigMap, string, error) {
	var list corev1.ConfigMapList
	err := request(a.client, namespace, "configmaps", o).Do(ctx).Into(&list)
	return pointers(list.Items), list.ResourceVersion, err
}

func (a configMapAPI) watch(ctx context.Context, namespace string, o *metav1.ListOptions) (watch.Interface, error) {
	return request(a.client, namespace, "configmaps", o).Watch(ctx)
}

// secretAPI gets nothing but the metadata of Secrets: their content is fetched
// when it is written, and never kept.
type secretAPI struct{ client rest.Interface }

// metadataOnly asks for an object's, or a list's, metadata in the place of the
// whole (KEP-1601 of sig-api-machinery, metadata clients).
func metadataOnly(kind string) string {
	const as = ";as=%s;g=meta.k8s.io;v=v1"
	return fmt.Sprintf("application/vnd.kubernetes.protobuf"+as+",application/json"+as, kind, kind)
}

func (a secretAPI) list(ctx context.Context, namespace string, o *metav1.ListOptions) ([]*metav1.PartialObjectMetadata, string, error) {
	var list metav1.PartialObjectMetadataList
	err := request(a.client, namespace, "secrets", o).
		SetHeader("Accept", metadataOnly("PartialObjectMetadataList")).Do(ctx).Into(&list)
	return pointers(list.Items), list.ResourceVersion, err
}

func (a secretAPI) watch(ctx context.Context, namespace string, o *metav1.ListOptions) (watch.Interface, error) {
	return request(a.client, namespace, "secrets", o).SetHeader("Accept", metadataOnly("PartialObjectMetadata")).Watch(ctx)
}

// trustBundleAPI gets the cluster's trust bundles, as the kubelet does: all.
type trustBundleAPI struct{ client rest.Interface }

const trustBundles = "clustertrustbundles"

func (a trustBundleAPI) list(ctx context.Context, _ string, o *metav1.ListOptions) ([]*certificatesv1.ClusterTrustBundle, string, error) {
	var list certificatesv1.ClusterTrustBundleList
	err := request(a.client, "", trustBundles, o).Do(ctx).Into(&list)
	// A server that lacks the API says 404, or 403 because it knows no rule
	// that lets a node read it.
	if (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)) && !a.served(ctx) {
		err = fmt.Errorf("certificates.k8s.io/v1 ClusterTrustBundle is %w (it is there from Kubernetes 1.37 on)", errUnserved)
	}
	return pointers(list.Items), list.ResourceVersion, err
}

// served says whether the server has the API; yes, if that can't be found out.
func (a trustBundleAPI) served(ctx context.Context) bool {
	var resources metav1.APIResourceList
	err := a.client.Get().AbsPath("/apis/certificates.k8s.io/v1").Do(ctx).Into(&resources)
	if err != nil {
		return !apierrors.IsNotFound(err)
	}
	return slices.ContainsFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == trustBundles })
}

func (a trustBundleAPI) watch(ctx context.Context, _ string, o *metav1.ListOptions) (watch.Interface, error) {
	return request(a.client, "", trustBundles, o).Watch(ctx)
}
