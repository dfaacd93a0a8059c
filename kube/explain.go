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
	"time"

	corev1 "k8s.io/api/core/v1"
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
		advice = "a file of the credential does not exist (waiting for it)"
	case errors.Is(err, fs.ErrPermission):
		advice = "a file of the credential can't be read by this user"
	case errors.As(err, &unknownCA):
		advice = "the API server's certificate is not signed by the CA of the credential; is it of this cluster?"
	case errors.As(err, &badHost):
		advice = "the API server's certificate is not for the name by which it is reached"
	case errors.As(err, &badCert):
		advice = "the API server's certificate is not valid; is this machine's clock right?"
	case apierrors.IsUnauthorized(err):
		advice = "the API server refuses the credential; it has expired or is not of this cluster"
	case isNoRelationship(err):
		return err // usually the API server's caches; what else it may be, the error says
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		advice = "the namespace is being deleted, and until then what was granted before is valid"
	case apierrors.IsForbidden(err):
		advice = "the API server does not permit this; look at the permissions of who asks, and at admission policies"
	case apierrors.IsNotFound(err) && kindOf(err) == "serviceaccounts":
		advice = "the Pod's ServiceAccount does not exist; create it"
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		advice = "the API server does not accept this; look at the Pod's spec, and at admission policies"
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

// kindOf is the kind of object that an answer of the API server is about.
func kindOf(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return ""
	}
	return status.Status().Details.Kind
}

// isNoRelationship says that the Node authorizer knows of no Pod on this node
// that refers to the object (plugin/pkg/auth/authorizer/node): it is told of them
// by a watch of its own.
func isNoRelationship(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "no relationship found")
}

// markCatchingUp marks the errors by which the API server says that its caches
// have not seen a new Pod yet: the Node authorizer's graph, and
// NodeRestriction's lister.
func markCatchingUp(err error) error {
	kind := kindOf(err)
	if isNoRelationship(err) || apierrors.IsNotFound(err) && (kind == "pod" || kind == "pods") {
		return fmt.Errorf("%w: %w", projector.ErrCatchingUp, err)
	}
	return err
}

// delayed is an error after which the API server is to be left alone for a
// while.
type delayed struct {
	error
	after time.Duration
}

func (d delayed) Unwrap() error { return d.error }

// RetryAfter is how long; see projector.RetryAfter.
func (d delayed) RetryAfter() time.Duration { return d.after }

// settledRetry is how soon an answer is asked for again that only a change of
// an object would make another.
const settledRetry = 10 * time.Second

// markDelay marks what is not to be tried again soon: as the server says, or by
// what it says of the object.
func markDelay(err error) error {
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
		return delayed{err, time.Duration(seconds) * time.Second}
	}
	kind := kindOf(err)
	switch {
	case isNoRelationship(err):
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsConflict(err),
		apierrors.IsNotFound(err) && kind == "serviceaccounts":
		return delayed{err, settledRetry}
	}
	return err
}
