package identity

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"ringfence/provisioning/wire/evidence"
)

// Quote signs the SHA-256 values of pcrs and qualifying with the attestation
// key. It returns TPMS_ATTEST and TPMT_SIGNATURE.
func (k *Keys) Quote(pcrs []int, qualifying []byte) (quote, signature []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.with(useAK, func(_ *object, h tpm2.AuthHandle) error {
		response, err := tpm2.Quote{SignHandle: h, QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: selection(pcrs)}.Execute(k.tpm)
		if err != nil {
			return err
		}
		quote, signature = response.Quoted.Bytes(), tpm2.Marshal(response.Signature)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("quote: %w", err)
	}
	return quote, signature, nil
}

// PCRs reads SHA-256 registers, which must be in ascending order.
func (k *Keys) PCRs(pcrs []int) (map[int][]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	values := make(map[int][]byte, len(pcrs))
	for left := pcrs; len(left) > 0; {
		response, err := tpm2.PCRRead{PCRSelectionIn: selection(left)}.Execute(k.tpm)
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", left[0], err)
		}
		// At most 8 at once, lowest first (part 2, 10.9.4; part 3, 22.4).
		digests := response.PCRValues.Digests
		if len(digests) == 0 || len(digests) > len(left) {
			return nil, fmt.Errorf("read PCR %d: %d values, is there a SHA-256 bank?", left[0], len(digests))
		}
		for i, digest := range digests {
			values[left[i]] = digest.Buffer
		}
		left = left[len(digests):]
	}
	return values, nil
}

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	list := make([]uint, len(pcrs))
	for i, p := range pcrs {
		list[i] = uint(p)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(list...)}}}
}

// Certify has the attestation key vouch that the key use lives in this TPM.
func (k *Keys) Certify(use string, qualifying []byte) (evidence.CertifiedKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	certified := evidence.CertifiedKey{Use: use, Public: k.Public(use)}
	err := k.with(use, func(_ *object, subject tpm2.AuthHandle) error {
		return k.with(useAK, func(_ *object, ak tpm2.AuthHandle) error {
			response, err := tpm2.Certify{ObjectHandle: subject, SignHandle: ak,
				QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
				InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(k.tpm)
			if err != nil {
				return err
			}
			certified.Certify, certified.Signature = response.CertifyInfo.Bytes(), tpm2.Marshal(response.Signature)
			return nil
		})
	})
	if err != nil {
		return evidence.CertifiedKey{}, fmt.Errorf("certify %s key: %w", use, err)
	}
	return certified, nil
}

// ekCertIndex is where the RSA-2048 EK certificate lies (TCG EK Credential
// Profile 2.5, 2.2.1.4).
const ekCertIndex tpm2.TPMHandle = 0x01c00002

// maxCertificate bounds an EK certificate, in bytes.
const maxCertificate = 4096

// Endorsement returns the TPMT_PUBLIC of the RSA-2048 endorsement key
// (template L-1) and its certificates (DER) from TPM NV.
func (k *Keys) Endorsement() (public []byte, certificates [][]byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	made, err := createEK(k.tpm)
	if err != nil {
		return nil, nil, err
	}
	defer flushObject(k.tpm, made.ObjectHandle)
	cert, err := readCertificate(k.tpm, ekCertIndex)
	if err != nil {
		return nil, nil, fmt.Errorf("read EK certificate: %w", err)
	}
	return made.OutPublic.Bytes(), [][]byte{cert}, nil
}

func createEK(t transport.TPM) (*tpm2.CreatePrimaryResponse, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("create endorsement key: %w", err)
	}
	return made, nil
}

func readCertificate(t transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	info, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	if err != nil {
		return nil, err
	}
	public, err := info.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if public.DataSize == 0 || public.DataSize > maxCertificate {
		return nil, fmt.Errorf("%d bytes, want 1 to %d", public.DataSize, maxCertificate)
	}
	const chunk = 512 // every TPM reads that much at once (TPM_PT_NV_BUFFER_MAX)
	var out []byte
	for len(out) < int(public.DataSize) {
		response, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: info.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: info.NVName},
			Size:       min(chunk, public.DataSize-uint16(len(out))), Offset: uint16(len(out)),
		}.Execute(t)
		if err != nil {
			return nil, err
		}
		if len(response.Data.Buffer) == 0 {
			return nil, errors.New("NV read returned nothing")
		}
		out = append(out, response.Data.Buffer...)
	}
	return out, nil
}

// Activate recovers the secret of a credential that was made for this TPM's
// endorsement key and this attestation key (TPM2_ActivateCredential).
func (k *Keys) Activate(blob, secret []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	made, err := createEK(k.tpm)
	if err != nil {
		return nil, err
	}
	defer flushObject(k.tpm, made.ObjectHandle)
	var recovered []byte
	err = k.with(useAK, func(_ *object, ak tpm2.AuthHandle) error {
		response, err := tpm2.ActivateCredential{
			ActivateHandle: ak,
			KeyHandle: tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name,
				Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, endorsementPolicy)},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: secret},
		}.Execute(k.tpm)
		if err != nil {
			return err
		}
		recovered = response.CertInfo.Buffer
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	return recovered, nil
}

// endorsementPolicy satisfies the EK's PolicyA (EK Credential Profile, B.6.2).
func endorsementPolicy(t transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session, NonceTPM: nonce,
	}.Execute(t)
	return err
}
