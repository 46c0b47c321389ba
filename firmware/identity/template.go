package identity

import "github.com/google/go-tpm/tpm2"

// The keys of a phone. Names are those of wire/evidence and wire/factory.
const (
	useAK         = "ak"
	useIDevID     = "idevid"
	useManagement = "management"
	useSIP        = "sip"
	useSeal       = "seal"
)

// uses lists every key in the order of creation.
func uses() []string { return []string{useAK, useIDevID, useManagement, useSIP, useSeal} }

// template returns the public area that the TPM is asked to create: P-256,
// never leaving this TPM (part 2, 8.3: fixedTPM, fixedParent,
// sensitiveDataOrigin).
func template(use string) tpm2.TPMTPublic {
	attributes := tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true,
	}
	scheme := tpm2.TPMTECCScheme{
		Scheme:  tpm2.TPMAlgECDSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
	}
	switch use {
	case useSeal:
		attributes.Decrypt = true
		scheme = tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDH,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDH, &tpm2.TPMSKeySchemeECDH{HashAlg: tpm2.TPMAlgSHA256}),
		}
	case useAK:
		// Restricted: signs only what the TPM itself made (part 1, 25.1.5).
		attributes.SignEncrypt, attributes.Restricted = true, true
	default:
		attributes.SignEncrypt = true
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256, Scheme: scheme,
		}),
	}
}
