// Package grpcerr tells the codes of errors to those who speak gRPC: a kubelet, and
// runtimes.
package grpcerr

import (
	"context"
	"errors"
	"net"
	"net/url"

	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/payload"
)

// Temporary says whether an error with this code may go by itself.
func Temporary(code codes.Code) bool {
	switch code {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return false
}

// Code is the code of what keeps a volume from being published. Of several causes
// that are known the first that is not temporary counts: waiting does not help then.
func Code(err error) codes.Code {
	code := codes.Internal
	for _, cause := range causes(err) {
		c := codeOfCause(cause)
		if c != codes.Internal && (code == codes.Internal || Temporary(code) && !Temporary(c)) {
			code = c
		}
	}
	return code
}

// causes takes joined errors apart.
func causes(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, causes(e)...)
	}
	return all
}

func codeOfCause(err error) codes.Code {
	var (
		source  *payload.SourceError
		request *url.Error // what an HTTP client returns without an answer
		network *net.OpError
		status  apierrors.APIStatus
	)
	switch {
	case errors.Is(err, projector.ErrNoPod), errors.Is(err, projector.ErrNoVolume):
		return codes.NotFound
	case errors.Is(err, projector.ErrFull), apierrors.IsTooManyRequests(err):
		return codes.ResourceExhausted
	case apierrors.IsForbidden(err):
		return codes.PermissionDenied
	// A credential of ours that is refused is none of the Pod's faults.
	case errors.As(err, &status) && (status.Status().Code >= 500 || apierrors.IsUnauthorized(err)),
		errors.As(err, &request), errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return codes.Unavailable
	case errors.As(err, &status), errors.As(err, &source), errors.Is(err, projector.ErrDeclaration), errors.Is(err, projector.ErrTerminating),
		errors.Is(err, projector.ErrOtherPod):
		return codes.FailedPrecondition
	}
	return codes.Internal
}
