package factory

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/x509"
	"io"
	"net"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ringfence/firmware/identity"
	"ringfence/hal/tpm/tpmtest"
	"ringfence/provisioning/wire/device"
	wire "ringfence/provisioning/wire/factory"
)

func deviceID(s string) device.ID { return device.ID(s) }

func mustIssue(t *testing.T, name string, m *Manufacturer) (*x509.Certificate, *ecdsa.PrivateKey) {
	return issue(t, name, false, m.CA, m.CAKey)
}

// otherIdentity makes keys in another TPM.
func otherIdentity(t *testing.T, vtpm *tpmtest.TPM) (*identity.Keys, [][]byte, []byte) {
	t.Helper()
	keys, err := identity.Create(vtpm.Device, t.TempDir())
	if err != nil {
		t.Error(err)
		return nil, nil, nil
	}
	ek, certs, err := keys.Endorsement()
	if err != nil {
		t.Error(err)
	}
	return keys, certs, ek
}

// lastNonce reads the station's nonce out of the genuine certification.
func lastNonce(i *wire.Identity) []byte {
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](i.Key.Certify)
	if err != nil {
		return nil
	}
	return attest.ExtraData.Buffer
}

// newMiddle stands between phone and station and changes the phone's Identity.
func newMiddle(t *testing.T, phone io.ReadWriteCloser, change func(*testing.T, *wire.Identity)) io.ReadWriteCloser {
	near, far := net.Pipe()
	up, down := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(phone, far) // ends with the line
	}()
	go func() {
		defer close(down)
		reader := bufio.NewReader(phone)
		for {
			m, err := wire.Read(reader)
			if err != nil {
				return
			}
			if m.Identity != nil && change != nil {
				change(t, m.Identity)
			}
			if wire.Write(far, m) != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = far.Close() // both ends go with the test
		_ = phone.Close()
		<-up
		<-down
	})
	return near
}
