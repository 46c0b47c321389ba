package archtest

import (
	"go/ast"
	"go/token"
	"strings"
)

// State wants no init functions and no package variable that can change: it
// has an initial value that is not made to be shared (no channel, lock, map to
// fill or pointer), and no function of the package assigns to it or to a part
// of it, or takes its address.
func State(t *Tree) []Finding {
	byDir := map[string][]*Source{}
	for _, s := range t.Go {
		if !s.Test() {
			byDir[s.Dir()] = append(byDir[s.Dir()], s)
		}
	}
	var found []Finding
	for _, sources := range byDir {
		vars := map[string]bool{}
		for _, s := range sources {
			found = append(found, declared(s, vars)...)
		}
		for _, s := range sources {
			found = append(found, changed(s, vars)...)
		}
	}
	return found
}

// declared adds the package's variables to vars and reports those that are bad as they stand.
func declared(s *Source, vars map[string]bool) []Finding {
	var found []Finding
	for _, d := range s.AST.Decls {
		if f, isFunc := d.(*ast.FuncDecl); isFunc && f.Recv == nil && f.Name.Name == "init" {
			found = append(found, s.finding("state", f.Pos(), "init function"))
		}
		group, isGroup := d.(*ast.GenDecl)
		if !isGroup || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			v := spec.(*ast.ValueSpec)
			embedded := embeds(group.Doc) || embeds(v.Doc)
			for i, name := range v.Names {
				if name.Name == "_" || allowedVars()[s.Dir()+":"+name.Name] != "" {
					continue
				}
				vars[name.Name] = true
				if !embedded && !fixed(v, i) {
					found = append(found, s.finding("state", name.Pos(), "package variable %s can change", name.Name))
				}
			}
		}
	}
	return found
}

func embeds(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// fixed reports whether the initial value is one that nobody fills in later.
func fixed(v *ast.ValueSpec, i int) bool {
	if len(v.Values) == 0 {
		return false
	}
	if len(v.Values) <= i {
		i = 0 // a, b = f()
	}
	switch value := v.Values[i].(type) {
	case *ast.UnaryExpr:
		return value.Op != token.AND && value.Op != token.ARROW
	case *ast.FuncLit:
		return false
	case *ast.CompositeLit:
		sel, isSel := value.Type.(*ast.SelectorExpr)
		if !isSel {
			return true
		}
		pkg, isIdent := sel.X.(*ast.Ident)
		return !isIdent || pkg.Name != "sync" && pkg.Name != "atomic"
	case *ast.CallExpr:
		f, isIdent := value.Fun.(*ast.Ident)
		return !isIdent || f.Name != "make" && f.Name != "new"
	default:
		return true
	}
}

// changed reports every place where a function changes one of the variables.
func changed(s *Source, vars map[string]bool) []Finding {
	var found []Finding
	var local map[string]bool
	report := func(e ast.Expr, how string) {
		if name := rootName(e); vars[name] && !local[name] {
			found = append(found, s.finding("state", e.Pos(), "%s package variable %s", how, name))
		}
	}
	for _, d := range s.AST.Decls {
		f, isFunc := d.(*ast.FuncDecl)
		if !isFunc {
			continue
		}
		local = localNames(f)
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok == token.DEFINE {
					return true
				}
				for _, left := range n.Lhs {
					report(left, "assigns to")
				}
			case *ast.IncDecStmt:
				report(n.X, "changes")
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					report(n.X, "takes the address of")
				}
			case *ast.CallExpr:
				if name, isIdent := n.Fun.(*ast.Ident); isIdent && (name.Name == "delete" || name.Name == "clear") {
					report(n.Args[0], "empties")
				}
			}
			return true
		})
	}
	return found
}

// rootName follows x.y, x[i] and *x down to the name they start from, or "".
func rootName(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// localNames is every name that the function declares itself. Such a name
// hides a package variable, in the whole function as far as this rule sees.
func localNames(f *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	add := func(e ast.Expr) {
		if name, isIdent := e.(*ast.Ident); isIdent {
			names[name.Name] = true
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				add(name)
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				add(name)
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if n.Tok == token.DEFINE {
					add(left)
				}
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				add(n.Key)
				add(n.Value)
			}
		}
		return true
	})
	return names
}
