package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// call is one way to call an image's program: it says its name then.
type call struct{ name, arg string }

func checkProgram(t *testing.T, f layerFile, machine elf.Machine) {
	t.Helper()
	if f.header.Mode != 0o755 {
		t.Errorf("%s has mode %o", f.header.Name, f.header.Mode)
	}
	program, err := elf.NewFile(bytes.NewReader(f.data))
	must(t, err)
	if program.Machine != machine {
		t.Errorf("%s is for %s", f.header.Name, program.Machine)
	}
	if program.Section(".interp") != nil || program.Section(".symtab") != nil || program.Section(".debug_info") != nil {
		t.Errorf("%s is not static and stripped", f.header.Name)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static: it has a %s", f.header.Name, p.Type)
		}
	}
}

// checkCalls unpacks the program and calls it by each of its names.
func checkCalls(t *testing.T, f layerFile, calls []call) {
	t.Helper()
	dir := t.TempDir()
	for i, c := range calls {
		path := filepath.Join(dir, c.name)
		if i == 0 {
			must(t, os.WriteFile(path, f.data, 0o755))
		} else {
			must(t, os.Link(filepath.Join(dir, calls[0].name), path))
		}
		out, err := exec.Command(path, strings.Fields(c.arg)...).CombinedOutput()
		// The name alone or with its directory, and not the beginning of another.
		if said := regexp.MustCompile(`^(` + regexp.QuoteMeta(dir) + `/)?` + c.name + `\b`); err != nil || !said.Match(out) {
			t.Errorf("%s %s: %v, %q", c.name, c.arg, err, out)
		}
	}
}

// checkSBOM checks that an SBOM has the program with its names, and all that it was
// linked from.
func checkSBOM(t *testing.T, data []byte, f layerFile, names []string) {
	t.Helper()
	var bom cdx.BOM
	must(t, cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom))
	if bom.SerialNumber != "" {
		t.Errorf("the SBOM has the serial number %s", bom.SerialNumber)
	}
	info, err := buildinfo.Read(bytes.NewReader(f.data))
	must(t, err)
	want := map[string]bool{}
	for _, m := range info.Deps {
		want[m.Path+" "+m.Version] = true
	}
	want["stdlib "+info.GoVersion[len("go"):]] = true
	found := false
	for _, c := range *bom.Components {
		delete(want, c.Name+" "+c.Version)
		if c.Name == f.header.Name {
			sum := sha256.Sum256(f.data)
			found = c.Hashes != nil && (*c.Hashes)[0].Value == hex.EncodeToString(sum[:])
			var locations []string
			for _, o := range *c.Evidence.Occurrences {
				locations = append(locations, strings.TrimPrefix(o.Location, "/"))
			}
			if !slices.Equal(locations, names) {
				t.Errorf("the SBOM has the program at %q, not at %q", locations, names)
			}
		}
	}
	if !found {
		t.Errorf("the SBOM does not have %s with its hash", f.header.Name)
	}
	for module := range want {
		t.Errorf("the SBOM lacks %s, which is in %s", module, f.header.Name)
	}
}
