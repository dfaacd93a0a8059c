package atomicdir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// generations lists those in a volume, without the current one.
func oldGenerations(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	check(t, err)
	var old []string
	for _, e := range entries {
		if IsGeneration(e.Name()) && e.Name() != current {
			old = append(old, e.Name())
		}
	}
	return old
}

func TestOldGenerationStaysForTheGrace(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const grace = 4 * time.Second
		d := New(dir, WithGrace(grace))
		_, err := d.Publish(payload("one"))
		check(t, err)
		set, err := os.OpenRoot(filepath.Join(dir, dataLink)) // a reader of a set
		check(t, err)
		defer func() { _ = set.Close() }()
		read := func() string {
			b, err := set.ReadFile("token")
			if err != nil {
				return err.Error()
			}
			return string(b)
		}

		second, err := d.Publish(payload("two"))
		check(t, err)
		if want := time.Now().Add(grace); !second.SweepAt.Equal(want) {
			t.Errorf("a sweep is due at %v, want %v", second.SweepAt, want)
		}
		time.Sleep(grace - time.Millisecond)
		if next, err := d.Sweep(); err != nil || !next.Equal(second.SweepAt) || read() != "one" {
			t.Errorf("before the grace ended: next %v, %v, the reader got %q", next, err, read())
		}
		time.Sleep(time.Millisecond)
		if next, err := d.Sweep(); err != nil || !next.IsZero() || read() == "one" {
			t.Errorf("after the grace: next %v, %v, the reader got %q", next, err, read())
		}
		assertTree(t, dir, published("two"))
	})
}

// TestGraceOfAnEarlierProcess begins when a process first sees the generation.
func TestGraceOfAnEarlierProcess(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for _, token := range []string{"one", "two"} {
			_, err := New(dir, WithGrace(time.Hour)).Publish(payload(token))
			check(t, err)
		}
		d := New(dir, WithGrace(time.Second))
		next, err := d.Sweep()
		check(t, err)
		if want := time.Now().Add(time.Second); !next.Equal(want) || len(oldGenerations(t, dir)) != 1 {
			t.Errorf("next sweep %v, want %v; old generations %v", next, want, oldGenerations(t, dir))
		}
		time.Sleep(time.Second)
		r, err := d.Publish(payload("two")) // a Publish that changes nothing sweeps too
		check(t, err)
		if r.Changed || !r.SweepAt.IsZero() {
			t.Errorf("result %+v", r)
		}
		assertTree(t, dir, published("two"))
	})
}

func TestOldGenerationsAreFew(t *testing.T) {
	dir := t.TempDir()
	d := New(dir, WithGrace(time.Hour))
	var names []string
	for n := range 3 * maxKept {
		r, err := d.Publish(payload(fmt.Sprint(n)))
		check(t, err)
		names = append(names, r.Generation)
	}
	old, want := oldGenerations(t, dir), names[len(names)-1-maxKept:len(names)-1]
	slices.Sort(want)
	if !slices.Equal(old, want) {
		t.Errorf("old generations %v, want the newest %v", old, want)
	}
	if len(d.generations) != maxKept+1 {
		t.Errorf("%d generations are remembered after many publishes, want %d", len(d.generations), maxKept+1)
	}
}

// TestSweepWithoutACurrentGeneration leaves all to the next Publish.
func TestSweepWithoutACurrentGeneration(t *testing.T) {
	dir := t.TempDir()
	publish(t, dir, payload("one"))
	check(t, os.Remove(filepath.Join(dir, dataLink)))
	if next, err := New(dir, WithGrace(0)).Sweep(); err != nil || !next.IsZero() {
		t.Errorf("next sweep %v, %v", next, err)
	}
	entries, err := os.ReadDir(dir)
	check(t, err)
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return IsGeneration(e.Name()) }) {
		t.Error("the only generation was swept")
	}
}
