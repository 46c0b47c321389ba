package image

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Inventory is what goes into an image's bill of materials.
type Inventory struct {
	Board, Release string
	Unsigned       []byte // UKI before signing: signatures do not change what it is made of
	Init           []byte
	Kernel         Kernel
	KernelImage    []byte
	Stub           Stub
}

// The part of SPDX 2.3 (JSON) that is used.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		License       string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID        string          `json:"SPDXID"`
		Name      string          `json:"name"`
		Version   string          `json:"versionInfo,omitempty"`
		Location  string          `json:"downloadLocation"`
		Analyzed  bool            `json:"filesAnalyzed"`
		Concluded string          `json:"licenseConcluded"`
		Declared  string          `json:"licenseDeclared"`
		Copyright string          `json:"copyrightText"`
		Checksums []spdxChecksum  `json:"checksums,omitempty"`
		Refs      []spdxReference `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxReference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Kind string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// BillOfMaterials returns the SPDX 2.3 document (JSON) of an image: the Go
// modules that are linked into PID 1, the kernel, the stub and the compilers.
// Equal images have equal documents.
func BillOfMaterials(v Inventory) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(v.Init))
	if err != nil {
		return nil, fmt.Errorf("read build information of the init binary: %w", err)
	}
	digest := sha256.Sum256(v.Unsigned)
	d := &spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT",
		Name:      fmt.Sprintf("ringfence-%s-%s", v.Board, v.Release),
		Namespace: "urn:ringfence:sbom:" + hex.EncodeToString(digest[:]),
		// A fixed time: the document is a function of the image.
		Creation: spdxCreation{Created: "2024-01-01T00:00:00Z", Creators: []string{"Tool: ringfence-image"}},
	}
	const image = "SPDXRef-image"
	d.add(image, "ringfence-"+v.Board, v.Release, "Apache-2.0", v.Unsigned, "")
	d.relate(d.ID, "DESCRIBES", image)
	d.add("SPDXRef-init", info.Main.Path, v.Release, "Apache-2.0", v.Init, "")
	d.relate(image, "CONTAINS", "SPDXRef-init")
	d.add("SPDXRef-kernel", "linux", v.Kernel.Version, "GPL-2.0-only", v.KernelImage, "pkg:deb/debian/linux-source-6.1@"+v.Kernel.Version)
	d.relate(image, "CONTAINS", "SPDXRef-kernel")
	d.add("SPDXRef-stub", "systemd-boot-efi", v.Stub.Version, "LGPL-2.1-or-later", v.Stub.Data, "pkg:deb/debian/systemd-boot-efi@"+v.Stub.Version+"?arch=arm64")
	d.relate(image, "CONTAINS", "SPDXRef-stub")
	for i, m := range info.Deps {
		id := fmt.Sprintf("SPDXRef-module-%d", i)
		if m.Replace != nil {
			m = m.Replace
		}
		d.add(id, m.Path, m.Version, "NOASSERTION", nil, "pkg:golang/"+m.Path+"@"+m.Version)
		d.relate("SPDXRef-init", "DEPENDS_ON", id)
	}
	d.add("SPDXRef-go", "go", info.GoVersion, "BSD-3-Clause", nil, "pkg:generic/go@"+info.GoVersion)
	d.relate("SPDXRef-go", "BUILD_TOOL_OF", "SPDXRef-init")
	d.add("SPDXRef-gcc", "gcc", v.Kernel.Compiler, "GPL-3.0-or-later", nil, "")
	d.relate("SPDXRef-gcc", "BUILD_TOOL_OF", "SPDXRef-kernel")
	return json.MarshalIndent(d, "", "  ")
}

func (d *spdxDocument) add(id, name, version, license string, data []byte, purl string) {
	p := spdxPackage{ID: id, Name: name, Version: version, Location: "NOASSERTION", Concluded: "NOASSERTION", Declared: license, Copyright: "NOASSERTION"}
	if data != nil {
		sum := sha256.Sum256(data)
		p.Checksums = []spdxChecksum{{"SHA256", hex.EncodeToString(sum[:])}}
	}
	if purl != "" {
		p.Refs = []spdxReference{{"PACKAGE-MANAGER", "purl", purl}}
	}
	d.Packages = append(d.Packages, p)
}

func (d *spdxDocument) relate(from, kind, to string) {
	d.Relationships = append(d.Relationships, spdxRelationship{from, kind, to})
}
