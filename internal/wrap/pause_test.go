package wrap

import (
	"strings"
	"testing"
)

// TestPauses: a hook that fails is run less and less often, and for another token
// at once.
func TestPauses(t *testing.T) {
	said := ""
	h := &hook{path: "/no/such/hook", limits: Hooks, report: func(err error) { said = err.Error() }}
	paused := func(want string) {
		t.Helper()
		if !strings.HasSuffix(said, "; again in "+want) || h.timer == nil {
			t.Errorf("it says %q, want %s", said, want)
		}
	}
	for range 2 {
		h.rotated()
		for _, want := range []string{"1s", "2s", "4s", "8s", "16s", "32s", "1m0s"} {
			paused(want)
			h.fire()
		}
		for range 100 {
			h.fire()
			paused("1m0s")
		}
	}
}

// TestNewestOnce: for tokens that came while it ran it is run once more, and not
// for ever.
func TestNewestOnce(t *testing.T) {
	h := &hook{path: "/no/such/hook", limits: Hooks, report: func(error) {}, pid: 1 << 30, due: true, failures: 5}
	h.ended(0)
	if h.due || h.pid != 0 || h.failures != 1 {
		t.Errorf("it was not run again, as for the first time: %+v", h)
	}
}
