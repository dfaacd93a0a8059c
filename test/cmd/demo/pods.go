package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/referee"
)

// What the demo works with.
const (
	// maxAge makes the kubelet's 24 h short enough to watch.
	maxAge = 10 * time.Second
	// late is how long after its deadline a token may be replaced.
	late = 10 * time.Second
	// stepTimeout is how long anything may take that should take a moment.
	stepTimeout = 30 * time.Second
	// demoLabel marks the demo's Pods, so that no others are served.
	demoLabel = "token-projector.io/demo"
)

// pod is one of the demo's Pods and the token files that it should have.
type pod struct {
	*corev1.Pod
	files   []referee.File
	deleted bool
}

// createPods makes a namespace with three Pods in it.
func (d *demo) createPods(ctx context.Context) error {
	ns, err := d.client.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "projectord-demo-"}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a namespace: %w", err)
	}
	d.ns = ns.Name
	accounts := d.client.CoreV1().ServiceAccounts(d.ns)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "vault-agent"}}
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating a ServiceAccount: %w", err)
	}
	if err := d.waitDefaultAccount(ctx); err != nil {
		return err
	}

	vault := d.podSpec("vault-agent")
	vault.Spec.ServiceAccountName = account.Name
	seconds := int64(600)
	vault.Spec.Volumes = []corev1.Volume{{Name: "vault-token", VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: &seconds, Path: "token"},
		}}},
	}}}
	vault.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "vault-token", MountPath: "/var/run/secrets/vault", ReadOnly: true}}
	offline := d.podSpec("offline")
	no := false
	offline.Spec.AutomountServiceAccountToken = &no

	for _, p := range []struct {
		spec *corev1.Pod
		what string
	}{
		{d.podSpec("web"), "ServiceAccount default; Kubernetes injects its volume"},
		{vault, "ServiceAccount vault-agent; that volume, and one with a 600 s token for audience vault"},
		{offline, "automountServiceAccountToken: false; must get nothing"},
	} {
		created, err := d.client.CoreV1().Pods(d.ns).Create(ctx, p.spec, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("creating Pod %s: %w", p.spec.Name, err)
		}
		d.pods = append(d.pods, d.expect(created))
		say("%-12s %s", created.Name, p.what)
	}
	return nil
}

// waitDefaultAccount waits until the controllers have filled the namespace.
func (d *demo) waitDefaultAccount(ctx context.Context) error {
	return poll(ctx, "the namespace's default ServiceAccount and CA", func() (bool, error) {
		return devcluster.NamespaceFilled(ctx, d.client, d.ns)
	})
}

func (d *demo) podSpec(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{demoLabel: d.ns}},
		Spec: corev1.PodSpec{
			NodeName:   d.node,
			Containers: []corev1.Container{{Name: "main", Image: "registry.k8s.io/pause:3.10"}},
		},
	}
}

// expect derives from a Pod, as the API server returned it, which token files
// it should have.
func (d *demo) expect(created *corev1.Pod) *pod {
	p := &pod{Pod: created, files: referee.TokenFiles(created, d.root())}
	for i := range p.files {
		p.files[i].MaxAge = maxAge + late
	}
	return p
}

// podDir is where a Pod's volumes lie.
func (d *demo) podDir(p *pod) string { return filepath.Join(d.root(), "pods", string(p.UID)) }

// request is what a Pod asks for with a token file.
func (d *demo) request(p *pod, f referee.File) rotation.Request {
	return rotation.Request{
		Namespace: p.Namespace, ServiceAccount: p.Spec.ServiceAccountName,
		Pod: rotation.ObjectRef{Name: p.Name, UID: string(p.UID)}, Audience: f.Audience, Lifetime: f.Lifetime,
	}
}

// delete removes a Pod at once, as its kubelet would in the end.
func (d *demo) delete(ctx context.Context, p *pod) error {
	now := int64(0)
	err := d.client.CoreV1().Pods(d.ns).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Pod %s: %w", p.Name, err)
	}
	p.deleted = true
	return nil
}

// waitNoVolumes waits until the daemon has removed every volume.
func (d *demo) waitNoVolumes(ctx context.Context) error {
	return poll(ctx, "projectord to remove its volumes", func() (bool, error) {
		left, err := os.ReadDir(filepath.Join(d.root(), "pods"))
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		return len(left) == 0, err
	})
}

// poll asks again and again until the answer is yes.
func poll(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
