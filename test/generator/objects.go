package generator

import (
	"context"
	"errors"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// MakeObjects makes what the Pods of a namespace refer to. A cluster has one
// trust bundle of the name, so one namespace.
func MakeObjects(ctx context.Context, client kubernetes.Interface, namespace, bundle string) error {
	meta := metav1.ObjectMeta{Name: Object}
	_, configMap := client.CoreV1().ConfigMaps(namespace).Create(ctx,
		&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{Key: Content}}, metav1.CreateOptions{})
	_, secret := client.CoreV1().Secrets(namespace).Create(ctx,
		&corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{Key: []byte(Content)}}, metav1.CreateOptions{})
	_, trust := client.CertificatesV1().ClusterTrustBundles().Create(ctx, &certificatesv1.ClusterTrustBundle{
		ObjectMeta: meta, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: bundle},
	}, metav1.CreateOptions{})
	return errors.Join(configMap, secret, trust)
}
