package factory

import (
	"encoding/json"
	"fmt"
	"time"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
)

// Manifest is the shipping manifest: the phones of one delivery. Imported by
// the operator it becomes the allow-list; nothing else lets a phone in.
type Manifest struct {
	Manufacturer string    `json:"manufacturer"`
	Created      time.Time `json:"created"`
	Anchors      [][]byte  `json:"anchors"` // DER, CA certificates that issued the IDevIDs
	Units        []Unit    `json:"units"`
}

// Unit is one phone.
type Unit struct {
	Device  device.ID       `json:"device"`
	Model   device.Model    `json:"model"`
	EK      evidence.Digest `json:"ek"`                // SHA-256 of the EK's TPMT_PUBLIC
	AK      evidence.Digest `json:"ak"`                // SHA-256 of the AK's TPMT_PUBLIC
	IDevID  evidence.Digest `json:"idevid"`            // SHA-256 of the IDevID certificate (DER)
	Voucher []byte          `json:"voucher,omitempty"` // CMS, once the buyer is known
}

// ManifestType is the DSSE payload type of a manifest signed by the
// manufacturer's release key.
const ManifestType = "application/vnd.ringfence.manifest+json"

// MaxManifest bounds a manifest's JSON, in bytes (about 10,000 units).
const MaxManifest = 32 << 20

// ParseManifest decodes a manifest strictly. The caller has verified who
// signed it, or the operator vouches for the file.
func ParseManifest(raw []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := wire.DecodeStrict(raw, MaxManifest, m); err != nil {
		return nil, fmt.Errorf("parse shipping manifest: %w", err)
	}
	if len(m.Anchors) == 0 || len(m.Units) == 0 {
		return nil, fmt.Errorf("shipping manifest with %d anchors and %d units, want at least 1 each", len(m.Anchors), len(m.Units))
	}
	for i, u := range m.Units {
		if _, err := device.ParseID(string(u.Device)); err != nil {
			return nil, fmt.Errorf("shipping manifest unit %d: %w", i, err)
		}
	}
	return m, nil
}

// Encode returns the manifest as indented JSON.
func (m *Manifest) Encode() ([]byte, error) { return json.MarshalIndent(m, "", "  ") }
