package kube

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/token-projector/token-projector/projector"
)

// explained is an error with a sentence that says what to do about it.
type explained struct {
	advice string
	err    error
}

func (e *explained) Error() string { return e.advice + ": " + e.err.Error() }
func (e *explained) Unwrap() error { return e.err }

// explain adds what to do to errors of a connection that have a usual cause.
func explain(err error) error {
	var (
		unknownCA x509.UnknownAuthorityError
		badHost   x509.HostnameError
		badCert   x509.CertificateInvalidError
		dns       *net.DNSError
		timeout   net.Error
	)
	var advice string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		advice = "the kubeconfig, or a file that it names, does not exist (waiting for it)"
	case errors.Is(err, fs.ErrPermission):
		advice = "the kubeconfig, or a file that it names, can't be read by this user"
	case errors.As(err, &unknownCA):
		advice = "the API server's certificate is not signed by the CA in the kubeconfig; is it of this cluster?"
	case errors.As(err, &badHost):
		advice = "the API server's certificate is not for the server name in the kubeconfig"
	case errors.As(err, &badCert):
		advice = "the API server's certificate is not valid; is this machine's clock right?"
	case apierrors.IsUnauthorized(err):
		advice = "the API server refuses the credential in the kubeconfig; it has expired or is not of this cluster"
	case errors.Is(err, syscall.ECONNREFUSED):
		advice = "nothing listens at the API server's address"
	case errors.As(err, &dns):
		advice = "the API server's name can't be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		advice = "the API server did not answer in time"
	default:
		return err
	}
	return &explained{advice: advice, err: err}
}

// markCatchingUp marks the errors by which the API server says that its caches
// have not seen a new Pod yet: the Node authorizer's graph
// (plugin/pkg/auth/authorizer/node) and NodeRestriction's lister.
func markCatchingUp(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err
	}
	kind := ""
	if d := status.Status().Details; d != nil {
		kind = d.Kind
	}
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "no relationship found") ||
		apierrors.IsNotFound(err) && (kind == "pod" || kind == "pods") {
		return fmt.Errorf("%w: %w", projector.ErrCatchingUp, err)
	}
	return err
}
