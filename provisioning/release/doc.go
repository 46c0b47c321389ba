// Package release keeps the update repository of the phones: TUF metadata
// whose offline roles need several people, images with one sigstore bundle per
// signer, and the proofs of the release log. People sign a proposal, a single
// file that travels between their machines; nobody can publish alone. It does
// not build images and does not decide which phone gets which.
//
// Spec: TUF specification 1.0.31; sigstore bundle format 0.3.
package release
