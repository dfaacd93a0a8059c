package main

import (
	"fmt"
	"go/constant"
	"go/format"
	"go/token"
	"go/types"
	"maps"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"
)

// list writes the declarations that others can use: a file for each package.
func list(pkgs []*types.Package) ([]byte, error) {
	archive := txtar.Archive{Comment: []byte("What users of this module can import, on linux/amd64. `make api-baseline` writes it.\n")}
	for _, pkg := range pkgs {
		src, err := format.Source(declare(pkg))
		if err != nil {
			return nil, fmt.Errorf("listing %s, which tools/api must learn: %w", pkg.Path(), err)
		}
		archive.Files = append(archive.Files, txtar.File{Name: pkg.Path(), Data: src})
	}
	return txtar.Format(&archive), nil
}

type lister struct {
	pkg     *types.Package
	imports map[string]string // names by path
	// sealing are methods of this package's interfaces, unexported ones too: a type
	// that loses one no longer implements the interface.
	sealing map[string]bool
	// todo also gets the unexported types that others see through something exported.
	todo []string
	out  strings.Builder
}

func declare(pkg *types.Package) []byte {
	l := &lister{pkg: pkg, imports: map[string]string{}, sealing: map[string]bool{}}
	for _, name := range pkg.Scope().Names() {
		obj := pkg.Scope().Lookup(name)
		if obj.Exported() {
			l.todo = append(l.todo, name)
		}
		if i, ok := obj.Type().Underlying().(*types.Interface); ok {
			for m := range i.Methods() {
				l.sealing[m.Name()] = true
			}
		}
	}
	for i := 0; i < len(l.todo); i++ {
		l.declare(pkg.Scope().Lookup(l.todo[i]))
	}
	head := "package " + pkg.Name() + "\n"
	for _, path := range slices.Sorted(maps.Keys(l.imports)) {
		head += fmt.Sprintf("import %s %q\n", l.imports[path], path)
	}
	return []byte(head + l.out.String())
}

func (l *lister) declare(obj types.Object) {
	switch obj := obj.(type) {
	case *types.Const:
		typ := l.text(obj.Type())
		if b, ok := obj.Type().(*types.Basic); ok && b.Info()&types.IsUntyped != 0 {
			typ = ""
		}
		l.line("const %s %s = %s", obj.Name(), typ, value(obj.Val()))
	case *types.TypeName:
		l.declareType(obj)
	default:
		l.line("%s", types.ObjectString(obj, l.qualify))
	}
}

// value writes a constant. Its exact string may be a fraction, which as Go would
// be a division of integers.
func value(v constant.Value) string {
	if num, denom, ok := strings.Cut(v.ExactString(), "/"); ok && v.Kind() == constant.Float {
		return num + ".0 / " + denom + ".0"
	}
	return v.ExactString()
}

func (l *lister) declareType(obj *types.TypeName) {
	named, ok := obj.Type().(*types.Named)
	if !ok || obj.IsAlias() {
		l.line("%s", types.ObjectString(obj, l.qualify))
		return
	}
	var params []string
	for p := range named.TypeParams().TypeParams() {
		params = append(params, p.Obj().Name()+" "+l.text(p.Constraint()))
	}
	decl := obj.Name()
	if len(params) > 0 {
		decl += "[" + strings.Join(params, ", ") + "]"
	}
	l.line("\ntype %s %s", decl, l.text(visible(named.Underlying())))
	methods := slices.Collect(named.Methods())
	slices.SortFunc(methods, func(a, b *types.Func) int { return strings.Compare(a.Name(), b.Name()) })
	for _, m := range methods {
		if m.Exported() || l.sealing[m.Name()] {
			l.line("func (%s) %s%s", l.text(m.Signature().Recv().Type()), m.Name(), strings.TrimPrefix(l.text(m.Type()), "func"))
		}
	}
}

// visible leaves out a struct's unexported fields, except embedded ones, whose
// fields and methods others can use. One stands for all of them, because others
// see that there are some, and whether == works.
func visible(t types.Type) types.Type {
	s, ok := t.(*types.Struct)
	if !ok {
		return t
	}
	var fields []*types.Var
	var tags []string
	for i := range s.NumFields() {
		if f := s.Field(i); f.Exported() || f.Embedded() {
			fields, tags = append(fields, f), append(tags, s.Tag(i))
		}
	}
	if len(fields) < s.NumFields() {
		var hidden types.Type = types.Typ[types.Int]
		if !types.Comparable(s) {
			hidden = types.NewSignatureType(nil, nil, nil, nil, nil, false)
		}
		fields = append(fields, types.NewField(token.NoPos, nil, "_", hidden, false))
	}
	return types.NewStruct(fields, tags)
}

func (l *lister) text(t types.Type) string { return types.TypeString(t, l.qualify) }

// qualify names a package in the source, and imports it.
func (l *lister) qualify(pkg *types.Package) string {
	if pkg == l.pkg {
		return ""
	}
	if name, ok := l.imports[pkg.Path()]; ok {
		return name
	}
	name, used := pkg.Name(), slices.Collect(maps.Values(l.imports))
	for slices.Contains(used, name) || l.pkg.Scope().Lookup(name) != nil {
		name += "_"
	}
	l.imports[pkg.Path()] = name
	return name
}

var word = regexp.MustCompile(`\w+`)

// line writes a declaration, and puts the types that it names on the list.
func (l *lister) line(layout string, args ...any) {
	text := fmt.Sprintf(layout, args...)
	for _, name := range word.FindAllString(text, -1) {
		if _, ok := l.pkg.Scope().Lookup(name).(*types.TypeName); ok && !slices.Contains(l.todo, name) {
			l.todo = append(l.todo, name)
		}
	}
	l.out.WriteString(text + "\n")
}
