package lockcfg

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/ca"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/lock"
)

// memory is a Store for one test goroutine.
type memory struct {
	settings map[string]Settings
	issued   map[device.ID]Issued
}

func (m *memory) Settings(_ context.Context, scope string) (Settings, error) {
	return maps.Clone(m.settings[scope]), nil
}

func (m *memory) AllSettings(context.Context) (map[string]Settings, error) { return m.settings, nil }

func (m *memory) UpdateSettings(_ context.Context, scope string, edit func(Settings) error) error {
	s := Settings{}
	maps.Copy(s, m.settings[scope])
	if err := edit(s); err != nil {
		return err
	}
	m.settings[scope] = s
	return nil
}

func (m *memory) UpdateIssued(_ context.Context, id device.ID, edit func(*Issued) error) error {
	i := m.issued[id]
	err := edit(&i)
	if err == nil {
		m.issued[id] = i
	}
	return err
}

func TestIssue(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := ca.NewRoot("owner", key, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := owner.ConfigSigner(key.Public(), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Store: &memory{map[string]Settings{}, map[device.ID]Issued{}}, Signer: key, Certificate: cert, CAs: [][]byte{owner.Certificate().Raw}, Defaults: Defaults("sip.test", "test")})
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := m.Issue(ctx, "RF-0001", private.PublicKey().Bytes(), 0, time.Now()); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Issue without a line = %v, want ErrIncomplete", err)
	}
	for _, c := range []struct {
		name    string
		changes Settings
		inForce uint64
		want    uint64
	}{
		{"first", Settings{"line.user": "100"}, 0, 1},
		{"nothing changed", nil, 1, 1},
		{"changed", Settings{"display.label": "Lobby"}, 1, 2},
		{"changed back is new", Settings{"display.label": ""}, 2, 3},
		{"phone is ahead of a restored database", nil, 9, 10},
	} {
		if err := m.Set(ctx, "RF-0001", c.changes); err != nil {
			t.Fatal(err)
		}
		issued, err := m.Issue(ctx, "RF-0001", private.PublicKey().Bytes(), c.inForce, time.Now())
		if err != nil || issued.Version != c.want {
			t.Fatalf("%s: version %d, %v, want %d", c.name, issued.Version, err, c.want)
		}
		cfg, err := lock.Open(issued.Sealed, recipient, "RF-0001", owner.Certificate(), c.want-1, false)
		if err != nil || cfg.Version != c.want || cfg.Lines[0].User != "100" {
			t.Errorf("%s: Open = %+v, %v", c.name, cfg, err)
		}
	}
}

// TestOneLineOnePhone: the second phone with a line is refused and keeps what
// it had; the same phone may say it again, and a freed line may be given anew.
func TestOneLineOnePhone(t *testing.T) {
	m := &Maker{cfg: Config{Store: &memory{map[string]Settings{}, nil}}}
	for _, c := range []struct {
		scope, user string
		taken       bool
	}{{"RF-0001", "100", false}, {"RF-0001", "100", false}, {"RF-0002", "100", true}, {"RF-0002", "101", false},
		{"RF-0001", "101", true}, {"RF-0001", "", false}, {"RF-0002", "100", false}} {
		err := m.Set(t.Context(), c.scope, Settings{lineUser: c.user})
		if errors.Is(err, ErrTaken) != c.taken || !c.taken && err != nil {
			t.Errorf("Set(%s, line.user=%q) = %v, taken %t", c.scope, c.user, err, c.taken)
		}
	}
	if s, err := m.Settings(t.Context(), "RF-0001"); err != nil || s[lineUser] != "" {
		t.Errorf("RF-0001 has %v, %v after a refusal", s, err)
	}
}

func TestSetRefusals(t *testing.T) {
	m := &Maker{cfg: Config{Store: &memory{map[string]Settings{}, nil}}}
	for _, c := range []struct{ scope, key, value, want string }{
		{Site, "line.user", "1", "belongs to one phone"},
		{"RF-0001", "line.user", "A B", "line"},
		{"RF-0001", "nonsense", "1", "unknown setting"},
		{Site, "media.suites", "NULL", "unknown"},
		{Site, "media.codecs", "G722,G722", "twice"},
		{Site, "media.port_min", "70000", "65535"},
		{Site, "management.report_seconds", "1", "want 5 to 3600"},
		{Site, "call_server.address", "nohost", "want host:port"},
	} {
		err := m.Set(t.Context(), c.scope, Settings{c.key: c.value, "display.label": "x"})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Set(%s, %s=%s) = %v, want %q", c.scope, c.key, c.value, err, c.want)
		}
		if s, err := m.Settings(t.Context(), c.scope); len(s) != 0 || err != nil {
			t.Errorf("a refused Set left %v, %v", s, err)
		}
	}
}
