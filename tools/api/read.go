package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strconv"

	"golang.org/x/tools/txtar"
)

// reader type-checks a listing. What it imports from elsewhere is as it is now:
// apidiff compares such types by their names.
type reader struct {
	fset  *token.FileSet
	files map[string]*ast.File // of the listing, by package
	pkgs  map[string]*types.Package
	gone  []string
}

// read returns the packages of a listing, and what they name that is gone from
// elsewhere, such as a package of another module.
func read(dir string, listing []byte) (pkgs []*types.Package, gone []string, err error) {
	r := &reader{fset: token.NewFileSet(), files: map[string]*ast.File{}, pkgs: map[string]*types.Package{}}
	archive := txtar.Parse(listing)
	for _, f := range archive.Files {
		if r.files[f.Name], err = parser.ParseFile(r.fset, f.Name, f.Data, 0); err != nil {
			return nil, nil, fmt.Errorf("the listing is broken: restore it from git: %w", err)
		}
	}
	if err := r.loadImports(dir); err != nil {
		return nil, nil, err
	}
	for _, f := range archive.Files {
		pkg, err := r.Import(f.Name)
		if err != nil {
			return nil, nil, err
		}
		pkgs = append(pkgs, pkg)
	}
	return pkgs, r.gone, nil
}

func (r *reader) loadImports(dir string) error {
	var paths []string
	for _, file := range r.files {
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if r.files[path] == nil {
				paths = append(paths, path)
			}
		}
	}
	if len(paths) == 0 {
		return nil
	}
	loaded, err := load(dir, paths...)
	if err != nil {
		return err
	}
	for _, p := range loaded {
		if len(p.Errors) == 0 {
			r.pkgs[p.PkgPath] = p.Types
		}
	}
	return nil
}

// Import makes reader a types.Importer.
func (r *reader) Import(path string) (*types.Package, error) {
	if pkg := r.pkgs[path]; pkg != nil {
		return pkg, nil
	}
	file := r.files[path]
	if file == nil {
		return nil, errors.New("this package is gone")
	}
	conf := types.Config{Importer: r, IgnoreFuncBodies: true, Error: func(err error) {
		// Soft is that a generic function has no body.
		if e, ok := errors.AsType[types.Error](err); !ok || !e.Soft {
			r.gone = append(r.gone, err.Error())
		}
	}}
	pkg, _ := conf.Check(path, r.fset, []*ast.File{file}, nil) // Error has them all.
	r.pkgs[path] = pkg
	return pkg, nil
}
