// Package secure protects the packets of one call: SRTP and SRTCP (RFC 3711)
// with AEAD_AES_256_GCM (RFC 7714) or AES_CM_128_HMAC_SHA1_80. It has no key
// exchange, no MKI, no re-keying, no NULL cipher and no way to run without
// replay protection.
//
// A [Sealer] serves one SSRC and never uses an index twice. An [Opener]
// authenticates before it believes anything: rollover counter, replay window
// and the very existence of a source change only with a packet that passed.
// Neither allocates per packet; neither is safe for concurrent use.
package secure
