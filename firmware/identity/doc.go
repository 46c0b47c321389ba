// Package identity is who the phone is: keys that are born in its TPM and
// never leave it, the IDevID from the factory, the owner named by a voucher,
// and the short-lived certificates that the owner's EST server issues. It does
// not judge what the phone runs and it opens no device.
//
// Specifications: IEEE 802.1AR-2018 (IDevID, LDevID), TPM 2.0 Library part 3,
// TCG EK Credential Profile 2.5, RFC 8366 (voucher), RFC 7030 and 8951 (EST),
// RFC 9457 (problem details).
package identity
