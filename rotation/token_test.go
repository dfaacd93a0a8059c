package rotation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const secret = "header.payload.signature"

func TestTokenRedactsItself(t *testing.T) {
	token := NewToken(secret)
	type exported struct{ T Token }
	type unexported struct{ t Token }
	type nested struct {
		m map[string]Token
		s []Token
		p *Token
	}
	values := map[string]any{
		"token":      token,
		"pointer":    &token,
		"exported":   exported{token},
		"unexported": unexported{token},
		"nested":     nested{map[string]Token{"k": token}, []Token{token}, &token},
		"grant":      Grant{Token: token},
	}
	for name, v := range values {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
				assertNoSecret(t, verb, fmt.Sprintf(verb, v))
			}
			assertNoSecret(t, "error", fmt.Errorf("minting: %v", v).Error())
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			assertNoSecret(t, "json", string(b))
			var out bytes.Buffer
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
			assertNoSecret(t, "slog", out.String())
		})
	}
	if got := token.Reveal(); got != secret {
		t.Errorf("Reveal() = %q, want the text", got)
	}
	if !NewToken("").IsZero() || token.IsZero() {
		t.Error("IsZero is wrong for an empty or a set token")
	}
}

// assertNoSecret looks for the text, its parts and its hexadecimal form.
func assertNoSecret(t *testing.T, how, got string) {
	t.Helper()
	needles := append(strings.Split(secret, "."), fmt.Sprintf("%x", "payload"), fmt.Sprintf("%X", "payload"))
	for _, needle := range needles {
		if strings.Contains(got, needle) {
			t.Errorf("%s shows %q of the token: %s", how, needle, got)
		}
	}
}
