package tokenfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestDeadline(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       int64 // 0: none
	}{
		{"no JSON web token", "opaque", 0},
		{"exp", jwt(`{"exp":1000}`), 1000},
		{"no exp", jwt(`{"sub":"me"}`), 0},
		{"extended by the API server", jwt(`{"exp":9000,"kubernetes.io":{"warnafter":1007}}`), 1007},
		{"a warning after the end", jwt(`{"exp":1000,"kubernetes.io":{"warnafter":2000}}`), 1000},
		{"claims of somebody else", jwt(`{"exp":1000,"kubernetes.io":"no"}`), 0},
	} {
		got := newToken(tt.text)
		want := time.Time{}
		if tt.want != 0 {
			want = time.Unix(tt.want, 0)
		}
		if !got.Deadline.Equal(want) || got.Reveal() != tt.text {
			t.Errorf("%s: %v, want %v", tt.name, got.Deadline, want)
		}
		if tt.want != 0 && (got.Expired(want.Add(-1)) || !got.Expired(want)) {
			t.Errorf("%s: expires at another moment than its deadline", tt.name)
		}
	}
}

// TestTokenShowsNothing in any of the ways in which values end up in logs.
func TestTokenShowsNothing(t *testing.T) {
	token := newToken("secret")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "token", token, "in", struct{ T Token }{token})
	inJSON, err := json.Marshal(map[string]any{"t": token})
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %v %+v", token, token, token, token, token, token, &token, struct{ T Token }{token})
	for _, text := range []string{shown, log.String(), string(inJSON)} {
		if strings.Contains(text, "secret") || strings.Contains(text, "736563726574") || !strings.Contains(text, "redacted") {
			t.Errorf("shown as %s", text)
		}
	}
}
