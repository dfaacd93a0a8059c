package tokenfile

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// jwtStart is how a JSON web token begins: {" in base64.
const jwtStart = "eyJ"

// whole says that a text is not a part of a JSON web token, cut off at its end.
// What is no such token is whole, for nothing says how long it is.
func whole(text string) bool {
	if !strings.HasPrefix(text, jwtStart) {
		return !strings.HasPrefix(jwtStart, text)
	}
	parts := strings.Split(text, ".")
	var header struct {
		Algorithm string `json:"alg"`
	}
	if !decode(parts[0], &header) {
		return false
	}
	if header.Algorithm == "" {
		return true // JSON in base64, and no JSON web token
	}
	switch len(parts) {
	case 3:
		var claims map[string]json.RawMessage
		signature, err := base64.RawURLEncoding.DecodeString(parts[2])
		return err == nil && decode(parts[1], &claims) && signatureFits(header.Algorithm, len(signature))
	case 5: // encrypted (RFC 7516); the tag is the last part
		return parts[4] != ""
	default:
		return false
	}
}

// decode reads JSON in base64.
func decode(part string, into any) bool {
	text, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(text, into) == nil
}

// signatureSizes are in bytes (RFC 7518, section 3.1; RFC 8812).
var signatureSizes = map[string]int{
	"HS256": 32, "HS384": 48, "HS512": 64,
	"ES256": 64, "ES384": 96, "ES512": 132, "ES256K": 64,
}

// signatureFits says whether a signature may have so many bytes. RSA's has as
// many as its key, which are 256 at least and as a rule a multiple of 64.
func signatureFits(algorithm string, size int) bool {
	if want, fixed := signatureSizes[algorithm]; fixed {
		return size == want
	}
	switch {
	case strings.HasPrefix(algorithm, "RS"), strings.HasPrefix(algorithm, "PS"):
		return size >= 256 && size%64 == 0
	case algorithm == "none":
		return true
	case algorithm == "EdDSA":
		return size == 64 || size == 114 // Ed25519, Ed448
	default:
		return size > 0
	}
}
