package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/package-url/packageurl-go"
)

// sbom lists what one platform's image consists of: the program, and the modules
// that the Go command says it linked into it. It has no serial number, which would
// have to be random.
func sbom(p program, alias string, created time.Time, meta labels) ([]byte, error) {
	bom := cdx.NewBOM()
	root := cdx.Component{
		BOMRef:  "image",
		Type:    cdx.ComponentTypeContainer,
		Name:    meta[labelTitle],
		Version: meta[labelVersion],
	}
	root.Licenses = licenses(meta)
	bom.Metadata = &cdx.Metadata{
		Timestamp: created.Format(time.RFC3339),
		Tools:     &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "tools/image"}}},
		Component: &root,
	}
	modules := moduleComponents(p.info)
	linked := slices.Sorted(maps.Keys(modules))
	components := []cdx.Component{programComponent(p, alias, meta)}
	for _, ref := range linked {
		components = append(components, modules[ref])
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{dependency(root.BOMRef, []string{p.name}), dependency(p.name, linked)}

	var b bytes.Buffer
	// The newest version of the format that scanners commonly read.
	err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return b.Bytes(), err
}

func dependency(ref string, on []string) cdx.Dependency {
	return cdx.Dependency{Ref: ref, Dependencies: &on}
}

// programComponent is the project's own program. It is one, whatever its names are:
// those are where it was found.
func programComponent(p program, alias string, meta labels) cdx.Component {
	sum := sha256.Sum256(p.data)
	found := []cdx.EvidenceOccurrence{{Location: "/" + p.name}}
	if alias != "" {
		found = append(found, cdx.EvidenceOccurrence{Location: "/" + alias})
	}
	return cdx.Component{
		BOMRef:     p.name,
		Type:       cdx.ComponentTypeApplication,
		Name:       p.name,
		Version:    p.version(),
		PackageURL: purl(p.info.Main.Path, p.version()),
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Licenses:   licenses(meta),
		Evidence:   &cdx.Evidence{Occurrences: &found},
	}
}

// moduleComponents are the modules that a program was linked from, by their
// package URL. Scanners know Go's own library as the module stdlib.
func moduleComponents(info *debug.BuildInfo) map[string]cdx.Component {
	modules := map[string]cdx.Component{}
	put := func(path, version string) {
		url := purl(path, version)
		modules[url] = cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url}
	}
	put("stdlib", strings.TrimPrefix(info.GoVersion, "go"))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		put(m.Path, m.Version)
	}
	return modules
}

// purl is a module's package URL, or "" for a program that is of no module.
func purl(module, version string) string {
	if module == "" {
		return ""
	}
	namespace, name := path.Split(module)
	return packageurl.NewPackageURL(packageurl.TypeGolang, strings.TrimSuffix(namespace, "/"), name, version, nil, "").ToString()
}

// licenses is the license that the image's label names.
func licenses(meta labels) *cdx.Licenses {
	if meta[labelLicenses] == "" {
		return nil
	}
	return &cdx.Licenses{{Expression: meta[labelLicenses]}}
}
