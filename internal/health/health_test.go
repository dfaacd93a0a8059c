package health

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestSetLogsEachChangeOnce(t *testing.T) {
	var out bytes.Buffer
	s := NewSet(slog.New(slog.NewTextHandler(&out, nil)))
	api := s.Add("api-server", "not tried yet")
	disk := s.Add("root-dir", "not locked yet")
	if got := s.Problems(); !slices.Equal(got, []string{"api-server: not tried yet", "root-dir: not locked yet"}) {
		t.Errorf("at first: %q", got)
	}
	disk.Report(nil)
	for range 3 {
		api.Report(errors.New("refused"))
	}
	if got := s.Problems(); !slices.Equal(got, []string{"api-server: refused"}) {
		t.Errorf("one problem: %q", got)
	}
	for range 3 {
		api.Report(nil)
	}
	if got := s.Problems(); len(got) != 0 {
		t.Errorf("at last: %q", got)
	}
	if n := strings.Count(out.String(), "api-server"); n != 2 {
		t.Errorf("%d lines about the API server, want one for each of its two changes:\n%s", n, &out)
	}
}
