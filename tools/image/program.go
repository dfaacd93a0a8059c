package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// program is a static Go program for one platform.
type program struct {
	name     string
	data     []byte
	info     *debug.BuildInfo
	platform v1.Platform
}

func readProgram(path string) (program, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return program{}, err
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return program{}, fmt.Errorf("reading %s: %w: only Go programs can be packed", path, err)
	}
	p := program{name: filepath.Base(path), data: data, info: info}
	p.platform = v1.Platform{OS: p.setting("GOOS"), Architecture: p.setting("GOARCH")}
	if p.platform.OS != "linux" {
		return program{}, fmt.Errorf("%s is for %s: build it with GOOS=linux", path, p.platform)
	}
	if err := checkStatic(data); err != nil {
		return program{}, fmt.Errorf("checking %s: %w", path, err)
	}
	return p, nil
}

// checkStatic refuses a program that asks for a dynamic loader: the image has
// none.
func checkStatic(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return errors.New("it is dynamically linked: build it with CGO_ENABLED=0")
	}
	return nil
}

// setting is what the Go command recorded under a key, or "".
func (p program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// version is the main module's, or "" if none was recorded. That of a tree with
// uncommitted changes ends in +dirty.
func (p program) version() string {
	if p.info.Main.Version == "(devel)" {
		return ""
	}
	return p.info.Main.Version
}

// release is one version of a program, for each platform.
type release struct {
	created  time.Time
	programs []program // sorted by platform
}

func readRelease(paths []string, env func(string) (string, bool)) (*release, error) {
	r := &release{}
	for _, path := range paths {
		p, err := readProgram(path)
		if err != nil {
			return nil, err
		}
		for i, other := range r.programs {
			switch {
			case p.name != other.name:
				return nil, fmt.Errorf("%s is another program than %s: an image has one", path, paths[i])
			case p.info.Main != other.info.Main:
				return nil, fmt.Errorf("%s is of another version than %s: build both again", path, paths[i])
			case p.platform.Equals(other.platform):
				return nil, fmt.Errorf("%s is for %s, as %s is: give one for each platform", path, p.platform, paths[i])
			}
		}
		r.programs = append(r.programs, p)
	}
	var err error
	r.created, err = created(r.programs[0], env)
	slices.SortFunc(r.programs, func(a, b program) int { return cmp.Compare(a.platform.String(), b.platform.String()) })
	return r, err
}

// created is a time that is the same whenever the image is built: what
// SOURCE_DATE_EPOCH says, else the commit's, else 1970.
func created(p program, env func(string) (string, bool)) (time.Time, error) {
	if s, set := env("SOURCE_DATE_EPOCH"); set {
		seconds, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("reading SOURCE_DATE_EPOCH: %w", err)
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	if s := p.setting("vcs.time"); s != "" {
		return time.Parse(time.RFC3339, s)
	}
	return time.Unix(0, 0).UTC(), nil
}

// labels are those that the program itself gives.
func (r *release) labels() labels {
	p := r.programs[0]
	l := labels{labelTitle: p.name, labelCreated: r.created.Format(time.RFC3339)}
	if version := p.version(); version != "" {
		l[labelVersion] = version
	}
	if revision := p.setting("vcs.revision"); revision != "" {
		l[labelRevision] = revision
	}
	return l
}
