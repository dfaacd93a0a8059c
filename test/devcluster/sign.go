package devcluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Resign returns a token with other claims, signed with the key with which the
// API server signs, so that it takes the token for its own.
func (c *Cluster) Resign(token string, change func(claims map[string]any)) (string, error) {
	keyPEM, err := os.ReadFile(c.file(saKeyFile))
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return "", errors.New("the service account key is not PEM")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return "", err
	}
	original, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return "", fmt.Errorf("reading a token: %w", err)
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return "", err
	}
	var claims map[string]any
	if err := json.Unmarshal(body, &claims); err != nil {
		return "", err
	}
	change(claims)
	if body, err = json.Marshal(claims); err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{
		Key: key, KeyID: original.Signatures[0].Header.KeyID,
	}}, nil)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// ServerCertificate is the API server's own, for what stands in its place.
func (c *Cluster) ServerCertificate() (tls.Certificate, error) {
	return tls.LoadX509KeyPair(c.file(serverCertFile), c.file(serverKeyFile))
}
