package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

const module = `
-- go.mod --
module example.com/m

go 1.26
-- cmd/tool/main.go --
package main

func main() {}
-- internal/clock/clock.go --
package clock

import "time"

type Clock interface{ Now() time.Time }
-- store/store.go --
package store

import (
	"context"
	"time"

	"example.com/m/internal/clock"
)

type Store interface {
	Get(ctx context.Context, name string) (string, error)
}

type Memory struct {
	base
	used int
}

type base struct{ Size int }

func (*Memory) Get(ctx context.Context, name string) (string, error) { return name, nil }

func (base) Reset() {}

type Key struct {
	Name string ` + "`json:\"name\"`" + `
	hash uint64
}

type Pair[K comparable, V any] struct {
	Key   K
	Value V
}

func (p Pair[K, V]) Swap(other *Pair[K, V]) {}

func Of[K comparable](k K) Pair[K, Key] { return Pair[K, Key]{Key: k} }

type Option interface{ apply() }

type Fast struct{}

func (Fast) apply() {}

type Name = string

var Default, _ = Open("", 0)

const (
	Wait  = 3 * time.Second
	Third = 1.0 / 3
	Quote = "\"` + "`" + `\n"
)

func Open(path string, wait time.Duration) (*Memory, error) { return nil, nil }

func Close(*Memory) {}

func Aged(c clock.Clock) bool { return c != nil }
-- store/storetest/test.go --
package storetest

import . "example.com/m/store"

func New(t func(...any)) Store { return &Memory{} }
`

// Each test is in a directory of its own, other than where the listing was made.
func TestChanges(t *testing.T) {
	baseline := filepath.Join(t.TempDir(), "baseline.txt")
	if out, err := check(t, unpack(t), baseline, true); err != nil {
		t.Fatal(err, out)
	}
	const breaks, lacks, stale = "no longer fit baseline.txt", "lacks what was added", "nothing breaks"
	for name, test := range map[string]struct {
		replace []string // old and new texts, in all files
		says    string   // in the output
		fails   string   // in the error; empty: it passes
	}{
		"nothing":                {},
		"unexported field":       {[]string{"used int", "usage int64"}, "", ""},
		"unexported function":    {[]string{"func Close(", "func helper() {}\n\nfunc Close("}, "", ""},
		"internal package":       {[]string{"Now() time.Time", "Later() time.Time"}, "", ""},
		"program":                {[]string{"func main", "func Main() {}\n\nfunc main"}, "", ""},
		"body and lines":         {[]string{"return nil, nil", "\n\n\tpanic(path)"}, "", ""},
		"function added":         {[]string{"func Close(", "func Flush() {}\n\nfunc Close("}, "Flush: added", lacks},
		"method added":           {[]string{"func Close(", "func (Key) Hash() {}\n\nfunc Close("}, "Key.Hash: added", lacks},
		"field added":            {[]string{"hash uint64", "Hash uint64"}, "Key.Hash: added", lacks},
		"package added":          {[]string{"package main\n", "package tool\n"}, "package example.com/m/cmd/tool: added", lacks},
		"parameter renamed":      {[]string{"Open(path ", "Open(file "}, "", stale},
		"parameter":              {[]string{"path string", "path []byte", `Open("", 0)`, "Open(nil, 0)"}, "Open: changed from func(string, time.Duration)", breaks},
		"function removed":       {[]string{"func Close(", "func close2("}, "Close: removed", breaks},
		"interface's method":     {[]string{"type Store interface {", "type Store interface {\n\tPut()", "&Memory{}", "nil"}, "Store.Put: added", breaks},
		"method":                 {[]string{"func (*Memory) Get(ctx context.Context, name string)", "func (*Memory) Get(ctx context.Context, name []byte)", "return name, nil", `return "", nil`, "&Memory{}", "nil"}, "(*Memory).Get: changed", breaks},
		"embedded field":         {[]string{"Size int", "size int"}, "Memory.Size: removed", breaks},
		"embedded method":        {[]string{"func (base) Reset() {}", ""}, "base.Reset, method set of *Memory: removed", breaks},
		"comparability":          {[]string{"hash uint64", "hash []byte"}, "Key: old is comparable, new is not", breaks},
		"constraint":             {[]string{"Pair[K comparable, V any] struct", "Pair[K comparable, V comparable] struct"}, "Pair", breaks},
		"sealed":                 {[]string{"func (Fast) apply() {}", ""}, "Fast: no longer implements ./store.Option", breaks},
		"constant":               {[]string{"1.0 / 3", "1.0 / 4"}, "Third: value changed", breaks},
		"alias":                  {[]string{"Name = string", "Name string"}, "Name: changed", breaks},
		"variable":               {[]string{`Default, _ = Open("", 0)`, "Default int"}, "Default: changed", breaks},
		"package removed":        {[]string{"package storetest", ""}, "package example.com/m/store/storetest: removed", breaks},
		"package made internal":  {[]string{"store/storetest/test.go --", "store/internal/storetest/test.go --"}, "package example.com/m/store/storetest: removed", breaks},
		"package of a parameter": {[]string{"internal/clock", "internal/watch"}, "could not import example.com/m/internal/clock", breaks},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := check(t, unpack(t, test.replace...), baseline, false)
			switch {
			case !strings.Contains(out, test.says) || test.says == "" && out != "":
				t.Errorf("it prints %q (error %v), which does not say %q", out, err, test.says)
			case test.fails == "" && err != nil:
				t.Errorf("it fails: %v", err)
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
				t.Errorf("the error is %v, not %q", err, test.fails)
			}
		})
	}
}

// Whatever has changed, the listing is current after an update, which says what
// it takes.
func TestUpdate(t *testing.T) {
	baseline := filepath.Join(t.TempDir(), "baseline.txt")
	if _, err := check(t, unpack(t), baseline, false); err == nil || !strings.Contains(err.Error(), "make api-baseline") {
		t.Errorf("without a baseline the error is %v", err)
	}
	if out, err := check(t, unpack(t), baseline, true); err != nil {
		t.Fatal(err, out)
	}
	changed := unpack(t, "path string", "path []byte", `Open("", 0)`, "Open(nil, 0)")
	if out, err := check(t, changed, baseline, true); err != nil || !strings.Contains(out, "Open: changed") {
		t.Errorf("the update prints %q, error %v", out, err)
	}
	if out, err := check(t, changed, baseline, false); err != nil || out != "" {
		t.Errorf("after the update it prints %q, error %v", out, err)
	}
}

func check(t *testing.T, dir, baseline string, update bool) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(dir, baseline, update, &out)
	return out.String(), err
}

// unpack writes the module with old texts replaced by new ones. A file without a
// package is left out.
func unpack(t *testing.T, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(module, replace[i]) {
			t.Fatalf("nothing has %q", replace[i])
		}
	}
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(strings.NewReplacer(replace...).Replace(module))).Files {
		path := filepath.Join(dir, f.Name)
		if filepath.Ext(path) == ".go" && !bytes.HasPrefix(f.Data, []byte("package ")) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
