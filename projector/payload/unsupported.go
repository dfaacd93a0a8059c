package payload

import (
	"errors"

	"github.com/token-projector/token-projector/projector/atomicdir"
)

// podCertificateSource is not built, so it makes its volume wait.
type podCertificateSource struct{}

func (podCertificateSource) kind() string { return "podCertificate" }

func (podCertificateSource) need(*Needs) {}

func (podCertificateSource) build(*Inputs, defaults) ([]atomicdir.File, error) {
	return nil, errors.New("this kind of source is not supported, so its volume is not served; see docs/parity.md")
}

// noSource is an entry without any source that is known here: an API server
// with a feature off drops the field and keeps the entry. Like the kubelet's, it
// adds nothing.
type noSource struct{}

func (noSource) kind() string { return "" }

func (noSource) need(*Needs) {}

func (noSource) build(*Inputs, defaults) ([]atomicdir.File, error) { return nil, nil }
