package kube

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/token-projector/token-projector/projector"
)

var podsResource = schema.GroupResource{Resource: "pods"}

func TestExplain(t *testing.T) {
	tests := []struct {
		name string
		err  error
		says string // empty: nothing is added
	}{
		{"missing file", fs.ErrNotExist, "does not exist"},
		{"unreadable file", &os.PathError{Op: "open", Path: "/k", Err: syscall.EACCES}, "can't be read by this user"},
		{"wrong CA", x509.UnknownAuthorityError{}, "not signed by the CA"},
		{"wrong name", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "not for the name"},
		{"expired server certificate", x509.CertificateInvalidError{Reason: x509.Expired}, "clock"},
		{"401", apierrors.NewUnauthorized("no"), "refuses the credential"},
		{"nobody listens", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "nothing listens"},
		{"no such host", &net.DNSError{Err: "no such host", Name: "h"}, "can't be resolved"},
		{"own deadline", context.DeadlineExceeded, "did not answer in time"},
		{"network timeout", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "did not answer in time"},
		{"403", apierrors.NewForbidden(podsResource, "p", errors.New("no")), "permissions"},
		{"403 of a cache", apierrors.NewForbidden(podsResource, "p", errors.New("no relationship found between node and this object")), ""},
		{"no ServiceAccount", apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, "sa"), "create it"},
		{"no ConfigMap", apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "cm"), ""},
		{"422", apierrors.NewInvalid(schema.GroupKind{Kind: "TokenRequest"}, "t", nil), "spec"},
		{"anything else", errors.New("else"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := fmt.Errorf("doing something: %w", tt.err)
			out := explain(in)
			if !errors.Is(out, in) {
				t.Fatalf("explain lost the error: %v", out)
			}
			if tt.says == "" && out.Error() != in.Error() || !strings.Contains(out.Error(), tt.says) {
				t.Errorf("explain(%v) = %v, want %q in it", in, out, tt.says)
			}
		})
	}
}

func TestMarkCatchingUp(t *testing.T) {
	notFound := func(kind string) error {
		err := apierrors.NewNotFound(schema.GroupResource{Resource: kind}, "n")
		err.ErrStatus.Details = &metav1.StatusDetails{Kind: kind, Name: "n"}
		return err
	}
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"the authorizer's graph lags", apierrors.NewForbidden(podsResource, "p", errors.New("no relationship found between node 'n' and this object")), true},
		{"NodeRestriction's lister lags", notFound("pod"), true},
		{"really forbidden", apierrors.NewForbidden(podsResource, "p", errors.New("node requested token with a UID that is not the Pod's")), false},
		{"no such ServiceAccount", notFound("serviceaccounts"), false},
		{"no answer", context.DeadlineExceeded, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := markCatchingUp(tt.err)
			if errors.Is(out, projector.ErrCatchingUp) != tt.want || !errors.Is(out, tt.err) {
				t.Errorf("markCatchingUp(%v) = %v, want marked %v", tt.err, out, tt.want)
			}
		})
	}
}

func TestMarkDelay(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want time.Duration
	}{
		{"429", apierrors.NewTooManyRequests("slow down", 7), 7 * time.Second},
		{"503 with Retry-After", apierrors.NewServerTimeout(podsResource, "create", 3), 3 * time.Second},
		{"500", apierrors.NewInternalError(errors.New("oops")), 0},
		{"a cache", apierrors.NewForbidden(podsResource, "p", errors.New("no relationship found")), 0},
		{"403", apierrors.NewForbidden(podsResource, "p", errors.New("no")), settledRetry},
		{"no ServiceAccount", apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, "sa"), settledRetry},
		{"the Pod is replaced", apierrors.NewConflict(podsResource, "p", errors.New("other UID")), settledRetry},
		{"no connection", syscall.ECONNREFUSED, 0},
	} {
		var asks interface{ RetryAfter() time.Duration }
		got := time.Duration(0)
		if errors.As(fmt.Errorf("wrapped: %w", markDelay(tt.err)), &asks) {
			got = asks.RetryAfter()
		}
		if got != tt.want {
			t.Errorf("%s: after %v, want %v", tt.name, got, tt.want)
		}
	}
}
