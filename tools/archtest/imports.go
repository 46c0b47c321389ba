package archtest

import (
	"slices"
	"strconv"
	"strings"
)

// Imports holds every import against the table.
func Imports(t *Tree) []Finding {
	var found []Finding
	for _, s := range t.Go {
		rule, known := ruleFor(s.Dir())
		if !known {
			found = append(found, Finding{Rule: "imports", Path: s.Path, Text: "no import rule covers this folder"})
			continue
		}
		for _, spec := range s.AST.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // the parser has refused it before
			}
			if !rule.allows(name, s.Test()) {
				found = append(found, s.finding("imports", spec.Pos(), "%s may not import %q", s.Dir(), name))
			}
		}
	}
	return found
}

func ruleFor(dir string) (importRule, bool) {
	for _, rule := range importRules() {
		if matches(rule.from, dir) {
			return rule, true
		}
	}
	return importRule{}, false
}

// allows says whether the import stands in the table. Tests may use any
// module as an independent peer, and our own test helpers.
func (r importRule) allows(name string, test bool) bool {
	if name == module || strings.HasPrefix(name, module+"/") {
		own := strings.TrimPrefix(name, module+"/")
		if strings.HasPrefix(own, "tools/") && !strings.HasPrefix(r.from, "tools/") {
			return false
		}
		return listed(r.ours, own) || test && (matches(testHelpers, own) || r.from == "firmware/**" && matches(testDrivers, own))
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return test || !slices.Contains(r.std, name)
	}
	allowed := test && !strings.HasPrefix(name, "github.com/sigstore")
	for _, prefix := range r.modules {
		if banned, no := strings.CutPrefix(prefix, "!"); no {
			if under(banned, name) {
				return false
			}
			continue
		}
		allowed = allowed || prefix == "*" || under(prefix, name)
	}
	return allowed
}

func under(prefix, name string) bool {
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}

func listed(patterns []string, name string) bool {
	allowed := false
	for _, pattern := range patterns {
		if banned, no := strings.CutPrefix(pattern, "!"); no {
			if matches(banned, name) {
				return false
			}
			continue
		}
		allowed = allowed || matches(pattern, name)
	}
	return allowed
}
