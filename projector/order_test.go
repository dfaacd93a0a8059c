package projector

import (
	"slices"
	"testing"
	"time"
)

func TestOrder(t *testing.T) {
	o := newOrder()
	now := time.Now()
	for name, left := range map[string]time.Duration{"soon": time.Minute, "expired": -time.Minute, "later": time.Hour, "longer": -time.Hour} {
		o.set(Key{Volume: name}, now.Add(left))
	}
	o.end(Key{Volume: "removed"}, true)
	for _, name := range []string{"later", "first", "soon", "second", "expired", "longer", "removed", "removed later"} {
		o.Push(Key{Volume: name})
	}
	o.end(Key{Volume: "removed later"}, true)
	for _, name := range []string{"removed later", "soon"} {
		o.Touch(Key{Volume: name})
	}
	var got []string
	for o.Len() > 0 {
		got = append(got, o.Pop().Volume)
	}
	if want := []string{"removed", "removed later", "expired", "longer", "first", "second", "soon", "later"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}
