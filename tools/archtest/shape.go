package archtest

import (
	"bytes"
	"go/ast"
	"go/format"
	"path"
	"slices"
	"strings"
)

// PackageDocs wants one comment on every package that says what it is for.
func PackageDocs(t *Tree) []Finding {
	documented := map[string]bool{}
	first := map[string]string{}
	for _, s := range t.Go {
		if s.Test() {
			continue
		}
		dir := s.Dir()
		if first[dir] == "" || s.Path < first[dir] {
			first[dir] = s.Path
		}
		want := "Package " + path.Base(dir) + " "
		if s.AST.Name.Name == "main" {
			want = "Command "
		}
		if s.AST.Doc != nil && strings.HasPrefix(s.AST.Doc.Text(), want) {
			documented[dir] = true
		}
	}
	var found []Finding
	for dir, name := range first {
		if !documented[dir] {
			found = append(found, Finding{Rule: "docs", Path: name, Text: `no package comment that starts "Package ` + path.Base(dir) + `" (or "Command")`})
		}
	}
	return found
}

// Sizes wants short files and short functions.
func Sizes(t *Tree) []Finding {
	var found []Finding
	for _, s := range t.Go {
		if lines := bytes.Count(s.Text, []byte("\n")); lines > maxFileLines {
			found = append(found, s.finding("size", s.AST.Pos(), "%d lines, at most %d", lines, maxFileLines))
		}
		for _, d := range s.AST.Decls {
			f, isFunc := d.(*ast.FuncDecl)
			if !isFunc {
				continue
			}
			if lines := s.line(f.End()) - s.line(f.Pos()) + 1; lines > maxFunctionLines {
				found = append(found, s.finding("size", f.Pos(), "function %s has %d lines, at most %d", f.Name.Name, lines, maxFunctionLines))
			}
		}
	}
	return found
}

// Format wants gofmt's form.
func Format(t *Tree) []Finding {
	var found []Finding
	for _, s := range t.Go {
		if out, err := format.Source(s.Text); err != nil || !bytes.Equal(out, s.Text) {
			found = append(found, Finding{Rule: "format", Path: s.Path, Text: "not in gofmt's form"})
		}
	}
	return found
}

// Words wants no names of machines and hosts, and no bare TODO.
func Words(t *Tree) []Finding {
	texts := map[string][]byte{}
	for name, text := range t.Other {
		texts[name] = text
	}
	for _, s := range t.Go {
		texts[s.Path] = s.Text
	}
	var found []Finding
	for name, text := range texts {
		for i, line := range strings.Split(string(text), "\n") {
			for _, word := range bannedWords() {
				if strings.Contains(line, word) {
					found = append(found, Finding{Rule: "words", Path: name, Line: i + 1, Text: "names " + word})
				}
			}
			if strings.Contains(line, "// "+"TODO") && !strings.Contains(line, "TODO"+"(#") {
				found = append(found, Finding{Rule: "words", Path: name, Line: i + 1, Text: "TODO without an issue number"})
			}
		}
	}
	return found
}

// TopLevel wants nothing new at the top of the repository.
func TopLevel(t *Tree) []Finding {
	var found []Finding
	for _, name := range t.Top {
		if !strings.HasPrefix(name, ".") && !slices.Contains(topLevel(), name) {
			found = append(found, Finding{Rule: "top", Path: name, Text: "does not belong at the top"})
		}
	}
	return found
}

// LabTag wants files of the build tag lab only in the phone's command.
func LabTag(t *Tree) []Finding {
	var found []Finding
	for _, s := range t.Go {
		if s.Lab() && s.Dir() != "firmware/cmd/phone" {
			found = append(found, s.finding("lab", s.AST.Pos(), "build tag lab outside firmware/cmd/phone"))
		}
	}
	return found
}

// Listeners wants no call in the firmware that opens a door: no phone listens.
func Listeners(t *Tree) []Finding {
	var found []Finding
	for _, s := range t.Go {
		if !matches("firmware/**", s.Dir()) || matches("firmware/intercom/**", s.Dir()) || s.Test() || s.Lab() {
			continue
		}
		ast.Inspect(s.AST, func(n ast.Node) bool {
			call, isCall := n.(*ast.CallExpr)
			if !isCall {
				return true
			}
			name := calleeName(call)
			if name.receiver == "intercom" {
				return true
			}
			if slices.Contains(listenCalls(), name.method) || name.receiver == "http" && strings.HasPrefix(name.method, "Serve") {
				found = append(found, s.finding("listen", call.Pos(), "%s.%s opens a listener", name.receiver, name.method))
			}
			return true
		})
	}
	return found
}

type callee struct{ receiver, method string }

func calleeName(call *ast.CallExpr) callee {
	sel, isSel := call.Fun.(*ast.SelectorExpr)
	if !isSel {
		return callee{}
	}
	if x, isIdent := sel.X.(*ast.Ident); isIdent {
		return callee{x.Name, sel.Sel.Name}
	}
	return callee{"", sel.Sel.Name}
}
