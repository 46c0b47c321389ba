package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// testdata is the collection of real event logs beside the repository.
const testdata = "../../../../shared/testdata/tpm-eventlogs"

func realLogs(t testing.TB) map[string][]byte {
	logs := make(map[string][]byte)
	paths, _ := filepath.Glob(filepath.Join(testdata, "eventlogs/tpm/*.bin")) // the pattern is constant
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(path); name != "debian-10.bin" { // SHA-1 only: see TestOldFormat
			logs[name] = raw
		}
	}
	if len(logs) == 0 {
		t.Skipf("SKIP: no event logs in %s: real firmware logs are not tested", testdata)
	}
	return logs
}

func TestRealLogs(t *testing.T) {
	for name, raw := range realLogs(t) {
		events, values, err := ReplayEventLog(raw)
		if err != nil {
			t.Errorf("ReplayEventLog(%s): %v", name, err)
			continue
		}
		if len(events) < 10 {
			t.Errorf("ReplayEventLog(%s): %d events", name, len(events))
		}
		if got, err := VerifyEventLog(raw, values); err != nil || len(got) != len(events) {
			t.Errorf("VerifyEventLog(%s) = %d events, %v", name, len(got), err)
		}
		for pcr, value := range values {
			value[0] ^= 1
			bad := map[int]Digest{}
			for k, v := range values {
				bad[k] = v
			}
			bad[pcr] = value
			if _, err := VerifyEventLog(raw, bad); !errors.Is(err, ErrReplay) {
				t.Errorf("VerifyEventLog(%s) with PCR %d changed: %v, want ErrReplay", name, pcr, err)
			}
		}
	}
}

// TestOldFormat: a log of the TPM 1.2 format has no SHA-256 bank.
func TestOldFormat(t *testing.T) {
	realLogs(t)
	raw, err := os.ReadFile(filepath.Join(testdata, "eventlogs/tpm/debian-10.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReplayEventLog(raw); err == nil {
		t.Error("a SHA-1 log is replayed")
	}
}

// TestTruncation cuts logs at every byte: none may verify, none may panic.
func TestTruncation(t *testing.T) {
	for name, raw := range realLogs(t) {
		_, values, err := ReplayEventLog(raw)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(raw) {
			if _, err := VerifyEventLog(raw[:n], values); err == nil && !onlyNoAction(raw, n) {
				t.Fatalf("%s cut to %d of %d bytes verifies", name, n, len(raw))
			}
		}
	}
}

// onlyNoAction says that what was cut off extends nothing.
func onlyNoAction(raw []byte, n int) bool {
	whole, _, errWhole := ReplayEventLog(raw)
	part, _, errPart := ReplayEventLog(raw[:n])
	return errWhole == nil && errPart == nil && len(whole) == len(part)
}

func imaEntry(path string, digest Digest, violation bool) ([]byte, Digest) {
	le := binary.LittleEndian
	hashed := append([]byte("sha256:\x00"), digest[:]...)
	body := append(le.AppendUint32(nil, uint32(len(hashed))), hashed...)
	body = append(append(le.AppendUint32(body, uint32(len(path)+1)), path...), 0)
	entry := le.AppendUint32(nil, PCRIMA)
	sum := make([]byte, 20)
	if !violation {
		sum[0] = 1
	}
	entry = append(le.AppendUint32(append(entry, sum...), 6), "ima-ng"...)
	return append(le.AppendUint32(entry, uint32(len(body))), body...), sha256.Sum256(body)
}

func TestIMA(t *testing.T) {
	first, a := imaEntry(BootAggregate, Digest{1}, false)
	second, b := imaEntry("/init", Digest{2}, false)
	bad, c := imaEntry("/init", Digest{}, true)
	both := append(append([]byte(nil), first...), second...)
	value := Digest{}.Extend(a).Extend(b)
	for _, tc := range []struct {
		name   string
		raw    []byte
		quoted Digest
		want   int
		err    error
	}{
		{"both", both, value, 2, nil},
		{"grown after the quote", both, Digest{}.Extend(a), 1, nil},
		{"other value", both, Digest{9}, 0, ErrReplay},
		{"empty", nil, Digest{}, 0, ErrReplay},
		{"violation", append(append([]byte(nil), first...), bad...), Digest{}.Extend(a).Extend(c), 0, ErrViolation},
	} {
		got, err := VerifyIMA(tc.raw, tc.quoted)
		if len(got) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("VerifyIMA(%s) = %d entries, %v, want %d, %v", tc.name, len(got), err, tc.want, tc.err)
		}
	}
	for n := range len(both) {
		if _, err := VerifyIMA(both[:n], value); err == nil {
			t.Errorf("IMA list cut to %d bytes verifies", n)
		}
	}
	if _, err := VerifyIMA(second, Digest{}.Extend(b)); err == nil {
		t.Error("a list without boot_aggregate verifies")
	}
}

func TestPhoneLog(t *testing.T) {
	tree := make([]byte, 32)
	radio := CleanRadio().Canonical()
	good := []Entry{{PCRDeviceTree, KindDeviceTree, tree}, {PCRRadio, KindRadio, radio}}
	v12, v13 := Digest{}.Extend(sha256.Sum256(tree)), Digest{}.Extend(sha256.Sum256(radio))
	if s, err := VerifyPhoneLog(good, v12, v13); err != nil || len(s.Found()) != 0 {
		t.Errorf("VerifyPhoneLog(good) = %v, %v", s, err)
	}
	for name, entries := range map[string][]Entry{
		"no radio": good[:1], "no tree": good[1:], "two trees": append(good[:2:2], good[0]),
		"wrong register": {good[0], {PCRDeviceTree, KindRadio, radio}},
		"not canonical":  {good[0], {PCRRadio, KindRadio, append(radio[:len(radio):len(radio)], ' ')}},
		"other register": {good[0], good[1], {14, KindRadio, radio}},
	} {
		if _, err := VerifyPhoneLog(entries, v12, v13); err == nil {
			t.Errorf("VerifyPhoneLog(%s) succeeds", name)
		}
	}
	if _, err := VerifyPhoneLog(good, v13, v13); !errors.Is(err, ErrReplay) {
		t.Errorf("VerifyPhoneLog with another register: %v, want ErrReplay", err)
	}
}

func FuzzReplayEventLog(f *testing.F) {
	f.Add([]byte("Spec ID Event03\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		events, values, err := ReplayEventLog(raw)
		if err == nil && len(events) > 0 && len(values) == 0 {
			t.Error("events without values")
		}
	})
}

func FuzzVerifyIMA(f *testing.F) {
	entry, _ := imaEntry(BootAggregate, Digest{1}, false)
	f.Add(entry)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if list, err := VerifyIMA(raw, Digest{}); err == nil {
			t.Errorf("a list of %d entries replays to zero", len(list))
		}
	})
}
