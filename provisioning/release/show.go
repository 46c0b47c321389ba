package release

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	wire "ringfence/provisioning/wire/release"
)

// Summary says what a proposal would put in force and whose signatures it has.
type Summary struct {
	Documents []DocumentSummary `json:"documents"`
	Image     *ImageSummary     `json:"image,omitempty"`
	Complete  bool              `json:"complete"` // every threshold is reached
}

// DocumentSummary is one document of a proposal.
type DocumentSummary struct {
	Role    string          `json:"role"`
	Version int64           `json:"version"`
	Expires time.Time       `json:"expires"`
	Needs   int             `json:"needs"` // signatures of different people, of the group that lacks most
	Has     int             `json:"has"`   // valid ones, of the same group
	Signers []SignerSummary `json:"signers"`
}

// SignerSummary is a person who may sign a document.
type SignerSummary struct {
	Person string `json:"person"`
	Key    string `json:"key"`
	Signed bool   `json:"signed"`
}

// ImageSummary is the image of a proposed release.
type ImageSummary struct {
	Target  string      `json:"target"`
	Length  int64       `json:"length"` // bytes
	SHA256  string      `json:"sha256"`
	Custom  wire.Custom `json:"custom"`
	Bundles []string    `json:"bundles"` // key identifiers
}

// Show summarises a proposal. It fails on signatures of people who may not be asked.
func (p *Proposal) Show() (*Summary, error) {
	o, err := p.open()
	if err != nil {
		return nil, err
	}
	s := &Summary{Complete: true}
	for _, d := range p.Documents {
		ds, err := o.summary(d.Role)
		if err != nil {
			return nil, fmt.Errorf("document %s: %w", d.Role, err)
		}
		s.Documents = append(s.Documents, *ds)
		s.Complete = s.Complete && ds.Has >= ds.Needs
	}
	if p.Image == nil {
		return s, nil
	}
	file, _, err := o.image(p.Image.Target)
	if err != nil {
		return nil, err
	}
	s.Image = &ImageSummary{Target: p.Image.Target, Length: file.Length, SHA256: hex.EncodeToString(file.Hashes["sha256"])}
	for id := range p.Image.Bundles {
		s.Image.Bundles = append(s.Image.Bundles, id)
	}
	if file.Custom == nil {
		return nil, errShape
	}
	return s, json.Unmarshal(*file.Custom, &s.Image.Custom)
}

func (o *opened) summary(role string) (*DocumentSummary, error) {
	all, err := o.authorities(role)
	if err != nil {
		return nil, err
	}
	body, signatures := o.body(role)
	ds := &DocumentSummary{Role: role}
	if role == "root" {
		ds.Version, ds.Expires = o.newRoot.Signed.Version, o.newRoot.Signed.Expires
	} else if role == "targets" {
		ds.Version, ds.Expires = o.newTargets.Signed.Version, o.newTargets.Signed.Expires
	} else {
		ds.Version, ds.Expires = o.roles[role].Signed.Version, o.roles[role].Signed.Expires
	}
	seen := map[string]bool{}
	for i, a := range all {
		have, err := a.signed(body, *signatures)
		if err != nil {
			return nil, err
		}
		if i == 0 || a.threshold-len(have) > ds.Needs-ds.Has {
			ds.Needs, ds.Has = a.threshold, len(have)
		}
		signed := map[string]bool{}
		for _, id := range have {
			signed[id] = true
		}
		for _, id := range a.ids() {
			if !seen[id] {
				seen[id] = true
				ds.Signers = append(ds.Signers, SignerSummary{person(a.keys[id]), id, signed[id]})
			}
		}
	}
	return ds, nil
}
