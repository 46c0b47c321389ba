// Package archtest holds the rules of the tree as code: who may import whom,
// package comments, sizes, formatting, package state, listeners and words that
// must not appear. Its test runs every rule over the whole repository. It
// judges form alone, never behaviour. The import table is rules.go.
package archtest
