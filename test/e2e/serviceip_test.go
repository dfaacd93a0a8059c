//go:build e2e

package e2e

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/proxy"
)

// TestServiceIP shows that who calls the API server at its service IP is who its
// own token says, or whom it may impersonate, and that tokens are short there if
// the test wants it.
func TestServiceIP(t *testing.T) {
	r := newRig(t)
	r.namespace("service-ip")
	_, err := r.client.RbacV1().ClusterRoles().Create(r.ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "service-ip"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"users"}, Verbs: []string{"impersonate"}},
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, Verbs: []string{"create"}},
		},
	}, metav1.CreateOptions{})
	r.must(err)
	_, err = r.client.RbacV1().ClusterRoleBindings().Create(r.ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "service-ip"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "service-ip"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "service-ip", Name: "default"}},
	}, metav1.CreateOptions{})
	r.must(err)
	config := rest.Config{Host: "https://" + devcluster.ServiceIP, TLSClientConfig: rest.TLSClientConfig{CAFile: r.cluster.CAFile()}}
	if name, err := r.whoAmI(config); !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
		t.Errorf("without a token: %q, %v", name, err)
	}
	config.BearerToken = r.token(r.client).Token
	const self = "system:serviceaccount:service-ip:default"
	if name, err := r.whoAmI(config); err != nil || name != self {
		t.Errorf("with a token: %q, %v; want %s", name, err, self)
	}
	alice := config
	alice.Impersonate.UserName = "alice"
	r.eventually("RBAC to know of the new role", func() error {
		_, err := r.whoAmI(alice)
		return err
	})
	if name, err := r.whoAmI(alice); err != nil || name != "alice" {
		t.Errorf("impersonating: %q, %v; want alice", name, err)
	}

	const lifetime = 30 * time.Second
	r.service.Set(proxy.Rules{Lifetime: lifetime})
	t.Cleanup(func() { r.service.Set(proxy.Rules{}) })
	before := r.service.Requests()
	client, err := kubernetes.NewForConfig(&config)
	r.must(err)
	short := r.token(client)
	if left := time.Until(short.ExpirationTimestamp.Time); left > lifetime {
		t.Errorf("the token lives %s, want at most %s", left, lifetime)
	}
	config.BearerToken = short.Token
	if name, err := r.whoAmI(config); err != nil || name != self {
		t.Errorf("with a short token: %q, %v; want %s", name, err, self)
	}
	after := r.service.Requests()
	for kind, want := range map[string]int{"create serviceaccounts/token": 1, "create selfsubjectreviews": 1, "list pods": 0} {
		if n := after[kind] - before[kind]; n != want {
			t.Errorf("%d requests of kind %q, want %d", n, kind, want)
		}
	}
}

// whoAmI is the name that the API server knows a client by.
func (r *rig) whoAmI(config rest.Config) (string, error) {
	client, err := kubernetes.NewForConfig(&config)
	if err != nil {
		return "", err
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().
		Create(r.ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return review.Status.UserInfo.Username, nil
}

// token requests a token of the test's ServiceAccount.
func (r *rig) token(client kubernetes.Interface) authenticationv1.TokenRequestStatus {
	r.Helper()
	request, err := client.CoreV1().ServiceAccounts("service-ip").
		CreateToken(r.ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	r.must(err)
	return request.Status
}
