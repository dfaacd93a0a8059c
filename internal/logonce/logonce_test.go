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
		{"ConfigMap \"a\" not found", "ConfigMap \"b\" not found", false},
	}
	for _, tt := range tests {
		if got := Same(tt.a, tt.b); got != tt.want {
			t.Errorf("Same(%q, %q) = %v", tt.a, tt.b, got)
		}
	}
}
