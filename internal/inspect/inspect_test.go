package inspect

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/rotation/rotationtest"
)

var now = time.Unix(1_800_000_600, 0)

const boundClaims = `{"iss": "https://i", "sub": "system:serviceaccount:ns:sa", "jti": "id", "aud": ["vault"], "iat": 1800000000, "exp": 1800003600,
	"kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "sa", "uid": "su"}, "pod": {"name": "p", "uid": "pu"}, "node": {"name": "n", "uid": "nu"}}}`

func TestParseTokenKinds(t *testing.T) {
	tests := []struct {
		name, claims string
		kind         Kind
		deadline     int64
		claim        string
	}{
		{"bound", boundClaims, KindBound, 1800003600, "exp"},
		{"extended", strings.NewReplacer(`"exp": 1800003600`, `"exp": 1831536000`, `"namespace": "ns", "serv`, `"warnafter": 1800003607, "namespace": "ns", "serv`).Replace(boundClaims),
			KindExtended, 1800003607, "kubernetes.io.warnafter"},
		{"unbound", `{"sub": "system:serviceaccount:ns:sa", "iat": 1800000000, "exp": 1800003600, "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "sa"}}}`,
			KindUnbound, 1800003600, "exp"},
		{"legacy", `{"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:sa", "kubernetes.io/serviceaccount/namespace": "ns",
			"kubernetes.io/serviceaccount/secret.name": "s", "kubernetes.io/serviceaccount/service-account.name": "sa", "kubernetes.io/serviceaccount/service-account.uid": "su"}`,
			KindLegacy, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := rotationtest.JWT(tt.claims)
			token, err := ParseToken(text, time.Time{}, now)
			if err != nil {
				t.Fatal(err)
			}
			deadline := int64(0)
			if !token.Deadline.IsZero() {
				deadline = token.Deadline.Unix()
			}
			if token.Kind != tt.kind || deadline != tt.deadline || token.DeadlineClaim != tt.claim ||
				token.ServiceAccount.Name != "sa" || token.Namespace != "ns" {
				t.Errorf("token %+v", token)
			}
			assertHidden(t, text, func(out *bytes.Buffer) error {
				if err := json.NewEncoder(out).Encode(token); err != nil {
					return err
				}
				return token.Print(out, now)
			})
		})
	}
}

// TestPrintQuotesWhatIsNotPrintable: a claim can't forge a line.
func TestPrintQuotesWhatIsNotPrintable(t *testing.T) {
	text := rotationtest.JWT(strings.Replace(boundClaims, `"jti": "id"`, `"jti": "id\nreview: accepted\u001b[2J"`, 1))
	token, err := ParseToken(text, time.Time{}, now)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := token.Print(&out, now); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\nreview") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("printed:\n%s", &out)
	}
}

// TestOverdueIsNotExpired: an extended token past its deadline is accepted
// until its exp.
func TestOverdueIsNotExpired(t *testing.T) {
	text := rotationtest.JWT(strings.Replace(boundClaims, `"namespace": "ns", "serv`, `"warnafter": 1800000060, "namespace": "ns", "serv`, 1))
	for _, tt := range []struct {
		at               int64
		overdue, expired bool
	}{{1800000059, false, false}, {1800000060, true, false}, {1800003600, false, true}} {
		token, err := ParseToken(text, time.Time{}, time.Unix(tt.at, 0))
		if err != nil || token.Overdue != tt.overdue || token.Expired != tt.expired {
			t.Errorf("at %d: %+v, %v", tt.at, token, err)
		}
	}
}

// assertHidden looks for parts of a token in what is shown.
func assertHidden(t *testing.T, text string, show func(*bytes.Buffer) error) {
	t.Helper()
	var out bytes.Buffer
	if err := show(&out); err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(text, ".") {
		if strings.Contains(out.String(), part) {
			t.Errorf("a part of the token is shown:\n%s", &out)
		}
	}
}

func TestParseTokenRefusesWhatIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"garbage":                "garbage",
		"empty":                  "",
		"binary":                 "\x00.\xff.\x01",
		"another subject's":      rotationtest.JWT(`{"sub": "alice"}`),
		"claims that are a list": rotationtest.JWT(`[]`),
	} {
		if token, err := ParseToken(text, time.Time{}, now); err == nil {
			t.Errorf("%s is taken for %+v", name, token)
		}
	}
}

func TestVerifySignature(t *testing.T) {
	sign := func(key *ecdsa.PrivateKey, id string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign([]byte(boundClaims))
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key := newKey()
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, text string
		valid      bool
		reason     string
	}{
		{"right", sign(key, "k"), true, ""},
		{"another key", sign(newKey(), "k"), false, "does not match"},
		{"unknown key id", sign(key, "other"), false, "no key in the set"},
		{"unsigned", rotationtest.JWT(boundClaims), false, "not one signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := VerifySignature(tt.text, jwks)
			if err != nil || s.Valid != tt.valid || !strings.Contains(s.Reason, tt.reason) {
				t.Errorf("signature %+v, %v", s, err)
			}
		})
	}
	for _, bad := range []string{"", "{}", "x"} {
		if _, err := VerifySignature(sign(key, "k"), []byte(bad)); err == nil {
			t.Errorf("key set %q is taken", bad)
		}
	}
}

func TestReadVolume(t *testing.T) {
	const gen, old = "..2026_11_22_18_27_21.1", "..2026_11_22_18_27_20.1"
	token := rotationtest.JWT(boundClaims)
	build := func(t *testing.T) string {
		dir := t.TempDir()
		for _, err := range []error{
			os.Mkdir(filepath.Join(dir, gen), 0755),
			os.WriteFile(filepath.Join(dir, gen, "token"), []byte(token), 0600),
			os.WriteFile(filepath.Join(dir, gen, "ca.crt"), []byte("a\nb\n"), 0644),
			os.Symlink(gen, filepath.Join(dir, "..data")),
			os.Symlink("..data/token", filepath.Join(dir, "token")),
			os.Symlink("..data/ca.crt", filepath.Join(dir, "ca.crt")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	tests := []struct {
		name   string
		damage func(dir string) error
		wrong  string // part of the one problem; empty: none
	}{
		{"as the writer leaves it", func(string) error { return nil }, ""},
		{"old generation", func(dir string) error { return os.Mkdir(filepath.Join(dir, old), 0755) }, "is an old one"},
		{"interrupted", func(dir string) error { return os.Symlink(gen, filepath.Join(dir, "..data_tmp")) }, "interrupted"},
		{"foreign file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0600) }, "x is not a link into ..data"},
		{"link to nothing", func(dir string) error { return os.Symlink("..data/x", filepath.Join(dir, "x")) }, "x is a link to nothing"},
		{"no link", func(dir string) error { return os.Remove(filepath.Join(dir, "token")) }, "token has no link"},
		{"writable", func(dir string) error { return os.Chmod(filepath.Join(dir, gen, "token"), 0666) }, "can be written by others"},
		{"writable directory", func(dir string) error { return os.Chmod(filepath.Join(dir, gen), 0777) }, "can be written by everybody"},
		{"link in the generation", func(dir string) error {
			if err := os.Remove(filepath.Join(dir, gen, "ca.crt")); err != nil {
				return err
			}
			return os.Symlink("/etc/passwd", filepath.Join(dir, gen, "ca.crt"))
		}, "is no regular file"},
		{"newline", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, gen, "token"), []byte(token+"\n"), 0600)
		}, "white space around"},
		{"no ..data", func(dir string) error { return os.Remove(filepath.Join(dir, "..data")) }, "..data is not a link"},
		{"..data leads out", func(dir string) error {
			if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
				return err
			}
			return os.Symlink("/etc", filepath.Join(dir, "..data"))
		}, "..data is not a link to a generation"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := build(t)
			if err := tt.damage(dir); err != nil {
				t.Fatal(err)
			}
			v, err := ReadVolume(dir, now)
			if err != nil {
				t.Fatal(err)
			}
			if problems := strings.Join(v.Problems, "\n"); tt.wrong == "" && problems != "" || !strings.Contains(problems, tt.wrong) ||
				len(v.Problems) > 1 {
				t.Errorf("problems %q, want the one %q", problems, tt.wrong)
			}
			assertHidden(t, token, func(out *bytes.Buffer) error {
				if err := json.NewEncoder(out).Encode(v); err != nil {
					return err
				}
				return v.Print(out, now)
			})
		})
	}
	v, err := ReadVolume(build(t), now.Add(time.Hour))
	if err != nil || len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "expired") {
		t.Errorf("an hour later: %+v, %v", v, err)
	}
	if want := []Link{{"..data", gen}, {"ca.crt", "..data/ca.crt"}, {"token", "..data/token"}}; !slices.Equal(v.Links, want) {
		t.Errorf("links %v, want %v", v.Links, want)
	}
}

// TestReadVolumeWhileItIsPublished swaps the generation behind the reader's
// back.
func TestReadVolumeWhileItIsPublished(t *testing.T) {
	for _, tt := range []struct {
		swaps int
		wrong int
	}{{0, 0}, {1, 0}, {looks - 1, 0}, {looks, 1}} {
		dir := t.TempDir()
		writer := atomicdir.New(dir)
		publish := func(n int) {
			if _, err := writer.Publish([]atomicdir.File{{Path: fmt.Sprint("file-", n), Data: []byte("x"), Mode: 0644}}); err != nil {
				t.Fatal(err)
			}
		}
		publish(0)
		swaps := 0
		v, err := untilStill(func() (*Volume, error) {
			v, err := readOnce(dir, time.Now())
			if swaps < tt.swaps {
				swaps++
				publish(swaps)
			}
			return v, err
		})
		if err != nil || len(v.Problems) != tt.wrong || len(v.Files) != 1 {
			t.Errorf("%d swaps: %+v, %v", tt.swaps, v, err)
		}
	}
}
