package rotation

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what a Token shows of itself.
const redacted = "[redacted token]"

// Token is the text of a credential. It shows "[redacted token]" under every
// fmt verb, in JSON, in text encodings and in slog; only Reveal gives the text.
//
// The zero value is no token. Two Tokens of the same text are not equal by ==: compare
// what Reveal returns. A Token is immutable and may be used by many
// goroutines.
type Token struct {
	// A pointer, because fmt does not call methods on unexported fields of a
	// struct that contains a Token: there it prints an address, not the text.
	text *string
}

// NewToken wraps text. An empty text gives the zero Token.
func NewToken(text string) Token {
	if text == "" {
		return Token{}
	}
	return Token{text: &text}
}

// Reveal returns the token's text, for writing it into its file or sending it
// to the API server and for nothing else.
func (t Token) Reveal() string {
	if t.text == nil {
		return ""
	}
	return *t.text
}

// IsZero says whether there is no token.
func (t Token) IsZero() bool { return t.text == nil }

// String implements fmt.Stringer.
func (Token) String() string { return redacted }

// Format implements fmt.Formatter, which takes precedence for every verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements encoding.TextMarshaler, which encoding/json uses too.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }
