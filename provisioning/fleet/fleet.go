// Package fleet holds the record of every phone and its state machine. The
// allow-list is nothing but these records: they come from shipping manifests
// only. It judges no evidence.
//
//	listed -> enrolled -> trusted <-> refused(reason);  any -> retired
package fleet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/factory"
)

// State is where a phone stands.
type State string

// The states.
const (
	Listed   State = "listed"   // on the allow-list, never seen
	Enrolled State = "enrolled" // holds a certificate, has not yet proved itself on the stream
	Trusted  State = "trusted"  // its last proof was good
	Refused  State = "refused"  // its last proof was not; Reason says why
	Retired  State = "retired"  // for good
)

// Errors that callers tell apart.
var (
	ErrUnknown = errors.New("device is not on the allow-list")
	ErrRetired = errors.New("device is retired")
)

// Device is one phone's record.
type Device struct {
	ID           device.ID       `json:"id"`
	Model        device.Model    `json:"model"`
	Manufacturer string          `json:"manufacturer"`
	EK           evidence.Digest `json:"ek"`
	AK           evidence.Digest `json:"ak"`
	IDevID       evidence.Digest `json:"idevid"`
	Voucher      []byte          `json:"voucher,omitempty"`
	State        State           `json:"state"`
	Reason       string          `json:"reason,omitempty"`
	Release      string          `json:"release,omitempty"`     // last proved
	SealKey      []byte          `json:"seal_key,omitempty"`    // uncompressed P-256 point, certified to be in its TPM
	Management   []byte          `json:"management,omitempty"`  // SHA-256 of its current management certificate
	LastProof    time.Time       `json:"last_proof,omitzero"`   // last good one
	LastReport   time.Time       `json:"last_report,omitzero"`  // any report
	ConfigSeen   uint64          `json:"config_seen,omitempty"` // version the phone says is in force
	ConfigError  string          `json:"config_error,omitempty"`
	Update       *Update         `json:"update,omitempty"` // the newest it spoke of
}

// Update is what a phone last said of an update. It is its word; Release of
// the Device is proof.
type Update struct {
	Release string     `json:"release"`
	Phase   wire.Phase `json:"phase"`
	Cause   string     `json:"cause,omitempty"`
	Error   string     `json:"error,omitempty"`
	At      time.Time  `json:"at"`
}

// Store keeps devices. Every method that returns nil has its effect on stable
// storage; all are safe for concurrent use.
type Store interface {
	// Device returns ErrUnknown for a device that is not there.
	Device(ctx context.Context, id device.ID) (*Device, error)
	Devices(ctx context.Context) ([]*Device, error)
	// UpdateDevices calls edit with each named record in one transaction;
	// a missing one is passed with an empty State. An error rolls all back.
	UpdateDevices(ctx context.Context, ids []device.ID, edit func(*Device) error) error
}

// Fleet is the state machine over a Store.
type Fleet struct{ store Store }

// New refuses a missing store.
func New(store Store) (*Fleet, error) {
	if store == nil {
		return nil, errors.New("fleet without a store")
	}
	return &Fleet{store}, nil
}

// Device returns one record; ErrUnknown when it is not on the allow-list.
func (f *Fleet) Device(ctx context.Context, id device.ID) (*Device, error) {
	return f.store.Device(ctx, id)
}

// Devices returns all, sorted by ID.
func (f *Fleet) Devices(ctx context.Context) ([]*Device, error) { return f.store.Devices(ctx) }

// Import adds a manifest to the allow-list, all of it or nothing. A device
// that is listed already must be the same TPM; a newer voucher replaces its
// voucher.
func (f *Fleet) Import(ctx context.Context, m *factory.Manifest) error {
	units := make(map[device.ID]factory.Unit, len(m.Units))
	var ids []device.ID
	for _, u := range m.Units {
		if _, twice := units[u.Device]; twice {
			return fmt.Errorf("shipping manifest lists %s twice", u.Device)
		}
		units[u.Device], ids = u, append(ids, u.Device)
	}
	return f.store.UpdateDevices(ctx, ids, func(d *Device) error {
		u := units[d.ID]
		if d.State == "" {
			*d = Device{ID: u.Device, Model: u.Model, Manufacturer: m.Manufacturer, EK: u.EK, AK: u.AK, IDevID: u.IDevID, State: Listed}
		} else if d.Manufacturer != m.Manufacturer || d.EK != u.EK || d.AK != u.AK || d.IDevID != u.IDevID {
			return fmt.Errorf("%s is listed already with another identity: retire it first", u.Device)
		}
		if len(u.Voucher) > 0 {
			d.Voucher = u.Voucher
		}
		return nil
	})
}

// Identify finds the device of a verified IDevID certificate: it must be the
// very certificate of the shipping manifest.
func (f *Fleet) Identify(ctx context.Context, idevid *x509.Certificate) (*Device, error) {
	d, err := f.ByCertificate(ctx, idevid)
	if err != nil {
		return nil, err
	}
	if evidence.Digest(sha256.Sum256(idevid.Raw)) != d.IDevID {
		return nil, fmt.Errorf("IDevID of %s is not the one in its shipping manifest: %w", d.ID, ErrUnknown)
	}
	return d, nil
}

// ByCertificate finds the device that a verified certificate names.
func (f *Fleet) ByCertificate(ctx context.Context, cert *x509.Certificate) (*Device, error) {
	id, err := device.FromCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	d, err := f.store.Device(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	if d.State == Retired {
		return nil, fmt.Errorf("%s: %w", id, ErrRetired)
	}
	return d, nil
}

// Enroll records a new management certificate and the certified seal key.
func (f *Fleet) Enroll(ctx context.Context, id device.ID, release string, cert, sealKey []byte, now time.Time) error {
	sum := sha256.Sum256(cert)
	return f.edit(ctx, id, func(d *Device) {
		if d.State != Trusted {
			d.State = Enrolled
		}
		d.Reason, d.Release, d.Management, d.LastProof = "", release, sum[:], now
		if len(sealKey) > 0 {
			d.SealKey = sealKey
		}
	})
}

// Trust records a good proof on the management stream.
func (f *Fleet) Trust(ctx context.Context, id device.ID, release string, now time.Time) error {
	return f.edit(ctx, id, func(d *Device) {
		d.State, d.Reason, d.Release, d.LastProof = Trusted, "", release, now
	})
}

// Refuse records why a phone is not let in.
func (f *Fleet) Refuse(ctx context.Context, id device.ID, reason string) error {
	return f.edit(ctx, id, func(d *Device) { d.State, d.Reason = Refused, reason })
}

// Lapse records that a trusted phone has not proved itself lately.
func (f *Fleet) Lapse(ctx context.Context, id device.ID) error {
	return f.edit(ctx, id, func(d *Device) {
		if d.State == Trusted {
			d.State, d.Reason = Enrolled, "no fresh proof"
		}
	})
}

// Retire ends a device's life here.
func (f *Fleet) Retire(ctx context.Context, id device.ID) error {
	return f.edit(ctx, id, func(d *Device) { d.State, d.Reason = Retired, "" })
}

// Report records that a report came, and what became of a configuration.
func (f *Fleet) Report(ctx context.Context, id device.ID, version uint64, cause string, now time.Time) error {
	return f.edit(ctx, id, func(d *Device) {
		d.LastReport = now
		if version > 0 || cause != "" {
			d.ConfigError = cause
		}
		if version > 0 && cause == "" {
			d.ConfigSeen = version
		}
	})
}

// Progress records what a phone says of an update.
func (f *Fleet) Progress(ctx context.Context, id device.ID, p *wire.Progress, now time.Time) error {
	return f.edit(ctx, id, func(d *Device) {
		d.Update = &Update{Release: p.Release, Phase: p.Phase, Cause: p.Cause, Error: p.Error, At: now}
	})
}

func (f *Fleet) edit(ctx context.Context, id device.ID, edit func(*Device)) error {
	return f.store.UpdateDevices(ctx, []device.ID{id}, func(d *Device) error {
		switch d.State {
		case "":
			return fmt.Errorf("%s: %w", id, ErrUnknown)
		case Retired:
			return fmt.Errorf("%s: %w", id, ErrRetired)
		}
		edit(d)
		return nil
	})
}
