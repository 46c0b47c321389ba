package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// module is the path of this module.
const module = "ringfence"

// Finding is one break of one rule.
type Finding struct {
	Rule string // e.g. "imports"
	Path string // from the top of the repository, with slashes
	Line int    // 0 when the whole file or package is meant
	Text string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.Path, f.Line, f.Rule, f.Text)
}

// Source is one Go file.
type Source struct {
	Path string
	Text []byte
	AST  *ast.File
	Set  *token.FileSet
}

// Tree is the repository as the rules see it. It is not changed by them.
type Tree struct {
	Go    []*Source
	Other map[string][]byte // every other text file by path
	Top   []string          // names at the top
}

// Load reads the repository at root, every file regardless of build tags.
func Load(root string) (*Tree, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel == "build" || rel == ".git" || rel == ".cache" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || rel == ".git" {
			return nil
		}
		data, err := os.ReadFile(name)
		files[rel] = data
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read tree %s: %w", root, err)
	}
	return New(files)
}

// New makes a tree of the given files by path.
func New(files map[string][]byte) (*Tree, error) {
	t := &Tree{Other: map[string][]byte{}}
	top := map[string]bool{}
	for name, data := range files {
		first, _, _ := strings.Cut(name, "/")
		if !top[first] {
			top[first] = true
			t.Top = append(t.Top, first)
		}
		if !strings.HasSuffix(name, ".go") {
			if !bytes.Contains(data, []byte{0}) {
				t.Other[name] = data
			}
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, data, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("parse: %w", err)
		}
		t.Go = append(t.Go, &Source{Path: name, Text: data, AST: file, Set: set})
	}
	return t, nil
}

// Dir is the folder of the file, which is its package path without the module.
func (s *Source) Dir() string { return path.Dir(s.Path) }

// Test reports whether the file belongs to a test only.
func (s *Source) Test() bool { return strings.HasSuffix(s.Path, "_test.go") }

// Lab reports whether the file is built only with the tag lab.
func (s *Source) Lab() bool {
	for _, group := range s.AST.Comments {
		for _, c := range group.List {
			expr, err := constraint.Parse(c.Text)
			if err == nil && wants(expr, "lab") {
				return true
			}
		}
	}
	return false
}

// wants reports whether the expression names the tag other than to exclude it.
func wants(expr constraint.Expr, tag string) bool {
	switch x := expr.(type) {
	case *constraint.TagExpr:
		return x.Tag == tag
	case *constraint.AndExpr:
		return wants(x.X, tag) || wants(x.Y, tag)
	case *constraint.OrExpr:
		return wants(x.X, tag) || wants(x.Y, tag)
	default:
		return false
	}
}

func (s *Source) line(pos token.Pos) int { return s.Set.Position(pos).Line }

func (s *Source) finding(rule string, pos token.Pos, format string, args ...any) Finding {
	return Finding{Rule: rule, Path: s.Path, Line: s.line(pos), Text: fmt.Sprintf(format, args...)}
}

// matches reports whether a package path is covered by a pattern of the table.
func matches(pattern, name string) bool {
	switch {
	case pattern == "**":
		return true
	case pattern == testHelpers:
		return strings.HasSuffix(name, "test")
	case strings.HasSuffix(pattern, "/**"):
		folder := strings.TrimSuffix(pattern, "/**")
		return name == folder || strings.HasPrefix(name, folder+"/")
	default:
		return name == pattern
	}
}
