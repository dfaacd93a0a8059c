package main

import (
	"bytes"
	"cmp"
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

// sbom lists what one platform's image consists of: the programs, and the
// modules that the Go command says it linked into each. It has no serial number,
// which would have to be random.
func sbom(p platformPrograms, created time.Time, meta labels) ([]byte, error) {
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
	var programs []cdx.Component
	var refs []string
	var dependencies []cdx.Dependency
	modules := map[string]cdx.Component{}
	for _, program := range p.programs {
		c := programComponent(program, meta)
		programs = append(programs, c)
		refs = append(refs, c.BOMRef)
		linked := moduleComponents(program.info)
		maps.Copy(modules, linked)
		dependencies = append(dependencies, dependency(c.BOMRef, slices.Sorted(maps.Keys(linked))))
	}
	dependencies = append(dependencies, dependency(root.BOMRef, refs))
	slices.SortFunc(dependencies, func(a, b cdx.Dependency) int { return cmp.Compare(a.Ref, b.Ref) })
	bom.Dependencies = &dependencies
	components := programs
	for _, ref := range slices.Sorted(maps.Keys(modules)) {
		components = append(components, modules[ref])
	}
	bom.Components = &components

	var b bytes.Buffer
	// The newest version of the format that scanners commonly read.
	err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return b.Bytes(), err
}

func dependency(ref string, on []string) cdx.Dependency {
	return cdx.Dependency{Ref: ref, Dependencies: &on}
}

// programComponent is a program of the project itself.
func programComponent(p program, meta labels) cdx.Component {
	sum := sha256.Sum256(p.data)
	return cdx.Component{
		BOMRef:     p.name,
		Type:       cdx.ComponentTypeApplication,
		Name:       p.name,
		Version:    p.version(),
		PackageURL: purl(p.info.Main.Path, p.version()),
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Licenses:   licenses(meta),
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
