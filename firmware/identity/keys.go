package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"ringfence/firmware/state"
	"ringfence/provisioning/wire"
)

// ErrNone reports that the phone has no identity yet: it needs the factory.
var ErrNone = errors.New("the phone has no identity")

const (
	keysFile = "keys.json"
	maxKeys  = 32 << 10 // bytes
)

// Keys are the phone's keys, loaded in its TPM. Safe for concurrent use.
type Keys struct {
	mu      sync.Mutex // a TPM holds 3 transient objects (PTP 1.05): one operation at a time
	tpm     transport.TPM
	objects map[string]*object
}

// object is one loaded key. Its context is swapped in for each operation, so
// that five keys fit a TPM with three slots.
type object struct {
	context tpm2.TPMSContext
	name    tpm2.TPM2BName
	public  tpm2.TPMTPublic
}

// blob is a key as it is stored: wrapped by this TPM's storage root key.
type blob struct {
	Public  []byte `json:"public"`  // TPM2B_PUBLIC
	Private []byte `json:"private"` // TPM2B_PRIVATE
}

// Create makes the phone's keys in the TPM and stores their wrapped form in
// dir, all in one atomic step. Keys that are there already are loaded instead.
func Create(t transport.TPM, dir string) (*Keys, error) {
	if t == nil || dir == "" {
		return nil, errors.New("create keys: no TPM or no state directory")
	}
	keys, err := Load(t, dir)
	if !errors.Is(err, ErrNone) {
		return keys, err
	}
	blobs, err := createBlobs(t)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(blobs)
	if err != nil {
		return nil, err
	}
	keys, err = load(t, blobs)
	if err != nil {
		return nil, err
	}
	return keys, state.Write(filepath.Join(dir, keysFile), raw)
}

// Load loads the keys that Create stored in dir; ErrNone when there are none.
func Load(t transport.TPM, dir string) (*Keys, error) {
	if t == nil || dir == "" {
		return nil, errors.New("load keys: no TPM or no state directory")
	}
	raw, err := state.Read(filepath.Join(dir, keysFile), maxKeys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load keys: %w", ErrNone)
	}
	if err != nil {
		return nil, err
	}
	blobs := map[string]blob{}
	if err := wire.DecodeStrict(raw, maxKeys, &blobs); err != nil {
		return nil, fmt.Errorf("decode %s: %w", keysFile, err)
	}
	return load(t, blobs)
}

func createBlobs(t transport.TPM) (map[string]blob, error) {
	parent, flush, err := storageRoot(t)
	if err != nil {
		return nil, err
	}
	defer flush()
	blobs := map[string]blob{}
	for _, use := range uses() {
		made, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template(use))}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("create %s key: %w", use, err)
		}
		blobs[use] = blob{tpm2.Marshal(made.OutPublic), tpm2.Marshal(made.OutPrivate)}
	}
	return blobs, nil
}

func load(t transport.TPM, blobs map[string]blob) (*Keys, error) {
	parent, flush, err := storageRoot(t)
	if err != nil {
		return nil, err
	}
	defer flush()
	k := &Keys{tpm: t, objects: map[string]*object{}}
	for _, use := range uses() {
		stored, ok := blobs[use]
		if !ok {
			return nil, fmt.Errorf("load keys: no %s key", use)
		}
		if k.objects[use], err = loadObject(t, parent, stored); err != nil {
			return nil, fmt.Errorf("load %s key: %w", use, err)
		}
	}
	return k, nil
}

func loadObject(t transport.TPM, parent tpm2.NamedHandle, stored blob) (*object, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](stored.Public)
	if err != nil {
		return nil, err
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](stored.Private)
	if err != nil {
		return nil, err
	}
	area, err := public.Contents()
	if err != nil {
		return nil, err
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPublic: *public, InPrivate: *private}.Execute(t)
	if err != nil {
		return nil, err
	}
	defer flushObject(t, loaded.ObjectHandle)
	saved, err := tpm2.ContextSave{SaveHandle: loaded.ObjectHandle}.Execute(t)
	if err != nil {
		return nil, err
	}
	return &object{context: saved.Context, name: loaded.Name, public: *area}, nil
}

// storageRoot makes the ECC storage root key (TCG Provisioning Guidance 7.5.1):
// deterministic, so it is not stored.
func storageRoot(t transport.TPM) (tpm2.NamedHandle, func(), error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return tpm2.NamedHandle{}, nil, fmt.Errorf("create storage root key: %w", err)
	}
	return tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, func() { flushObject(t, made.ObjectHandle) }, nil
}

// flushObject frees a transient slot.
func flushObject(t transport.TPM, h tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(t) // a full TPM fails the next load, which is reported
}

// with swaps the key use in and calls do. The caller holds k.mu.
func (k *Keys) with(use string, do func(o *object, h tpm2.AuthHandle) error) error {
	o, ok := k.objects[use]
	if !ok {
		return fmt.Errorf("no key for %q", use)
	}
	in, err := tpm2.ContextLoad{Context: o.context}.Execute(k.tpm)
	if err != nil {
		return fmt.Errorf("load context of %s key: %w", use, err)
	}
	defer flushObject(k.tpm, in.LoadedHandle)
	return do(o, tpm2.AuthHandle{Handle: in.LoadedHandle, Name: o.name, Auth: tpm2.PasswordAuth(nil)})
}

// Public returns the TPMT_PUBLIC of a key: "ak", "idevid" or a use of
// wire/evidence; nil for any other.
func (k *Keys) Public(use string) []byte {
	o, ok := k.objects[use]
	if !ok {
		return nil
	}
	return tpm2.Marshal(o.public)
}

// AK returns the TPMT_PUBLIC of the attestation key.
func (k *Keys) AK() []byte { return k.Public(useAK) }
