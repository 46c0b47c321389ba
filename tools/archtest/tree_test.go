package archtest

import (
	"sort"
	"testing"
)

func rules() map[string]func(*Tree) []Finding {
	return map[string]func(*Tree) []Finding{
		"imports": Imports, "docs": PackageDocs, "size": Sizes, "format": Format, "words": Words,
		"top": TopLevel, "lab": LabTag, "listen": Listeners, "state": State,
	}
}

// TestRepository holds the whole repository against every rule.
func TestRepository(t *testing.T) {
	tree, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Go) < 10 {
		t.Fatalf("only %d Go files found: the wrong folder was read", len(tree.Go))
	}
	for name, rule := range rules() {
		t.Run(name, func(t *testing.T) {
			found := rule(tree)
			sort.Slice(found, func(i, j int) bool { return found[i].String() < found[j].String() })
			for _, f := range found {
				t.Error(f)
			}
		})
	}
}
