package logonce

import "testing"

func TestSame(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"", "x", false},
		{"read tcp 127.0.0.1:4711->127.0.0.1:6443: reset", "read tcp 127.0.0.1:4712->127.0.0.1:6443: reset", true},
		{"valid until 2026-11-22T18:27:21Z", "valid until 2026-11-22T18:28:21.5+01:00", true},
		{"no answer after 9.998s", "no answer after 1m3.2s", true},
		{"making generation ..2026_11_22_18_27_21.3996713482: EIO", "making generation ..2026_11_22_18_27_22.11: EIO", true},
		{"dial tcp 127.0.0.1:6443: refused", "dial tcp 127.0.0.1:6444: refused", false},
		{"Secret \"app-1\" not found", "Secret \"app-2\" not found", false},
		{"ConfigMap \"a\" not found", "ConfigMap \"b\" not found", false},
	}
	for _, tt := range tests {
		if got := Same(tt.a, tt.b); got != tt.want {
			t.Errorf("Same(%q, %q) = %v", tt.a, tt.b, got)
		}
	}
}
