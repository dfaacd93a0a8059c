package tokenfile

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWhole(t *testing.T) {
	signed := func(header string, bytes int) string {
		return encode([]byte(header)) + "." + encode([]byte(`{"exp":1}`)) + "." + encode(make([]byte, bytes))
	}
	for _, tt := range []struct {
		name, text string
		want       bool
	}{
		{"no JSON web token", "abc", true},
		{"three parts, and none", "a.b.c", true},
		{"JSON in base64", encode([]byte(`{"user":"me"}`)), true},
		{"part of JSON in base64", encode([]byte(`{"user":"me"}`))[:9], false},
		{"its first letter", "e", false},
		{"RS256, 2048 bits", signed(`{"alg":"RS256"}`, 256), true},
		{"PS512, 4096 bits", signed(`{"alg":"PS512"}`, 512), true},
		{"RS256, cut", signed(`{"alg":"RS256"}`, 255), false},
		{"RS256, half", signed(`{"alg":"RS256"}`, 128), false},
		{"ES256", signed(`{"alg":"ES256"}`, 64), true},
		{"ES512, cut", signed(`{"alg":"ES512"}`, 131), false},
		{"EdDSA", signed(`{"alg":"EdDSA"}`, 64), true},
		{"EdDSA, cut", signed(`{"alg":"EdDSA"}`, 63), false},
		{"an algorithm of tomorrow", signed(`{"alg":"ML-DSA-44"}`, 2420), true},
		{"an algorithm of tomorrow, without a signature", signed(`{"alg":"ML-DSA-44"}`, 0), false},
		{"unsigned", signed(`{"alg":"none"}`, 0), true},
		{"header only", encode([]byte(`{"alg":"RS256"}`)), false},
		{"no signature", strings.TrimSuffix(signed(`{"alg":"RS256"}`, 0), "."), false},
		{"claims are cut", encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(`{"exp`)) + ".", false},
		{"encrypted", encode([]byte(`{"alg":"dir","enc":"A128GCM"}`)) + "..iv.text.tag", true},
		{"encrypted, cut", encode([]byte(`{"alg":"dir","enc":"A128GCM"}`)) + "..iv.text.", false},
	} {
		if got := whole(tt.text); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// FuzzWhole: of a token whose signature has one size, no part is whole.
func FuzzWhole(f *testing.F) {
	f.Add("ES256", "me", 10)
	f.Add("HS512", `"}.`, 0)
	f.Fuzz(func(t *testing.T, algorithm, subject string, cut int) {
		_ = whole(subject) // anything at all
		size, ok := signatureSizes[algorithm]
		if !ok {
			return
		}
		claims, err := json.Marshal(map[string]string{"sub": subject})
		if err != nil {
			t.Fatal(err)
		}
		text := encode([]byte(`{"alg":"`+algorithm+`"}`)) + "." + encode(claims) + "." + encode(make([]byte, size))
		if !whole(text) {
			t.Fatalf("%q is not whole", text)
		}
		if cut > 0 && cut < len(text) && whole(text[:cut]) {
			t.Fatalf("%q is whole", text[:cut])
		}
	})
}
