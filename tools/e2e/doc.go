// Package e2e holds the tests that put everything together: emulated boards,
// the provisioning service, the call server, a real segment between them. It
// exports nothing. The tests run inside the namespace that scripts/test makes.
package e2e
