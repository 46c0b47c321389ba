package release_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/wire/release"
)

const origin = "log.ringfence.test/releases"

// seeded is a reader that makes keys repeatable.
type seeded byte

func (s seeded) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

// lab is a log and three witnesses whose keys the test holds.
type lab struct {
	log       note.Signer
	witnesses []ed25519.PrivateKey
	trust     *release.Trust
}

func newLab(t testing.TB, quorum int) *lab {
	t.Helper()
	skey, vkey, err := note.GenerateKey(seeded(1), origin)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{trust: &release.Trust{Log: vkey, Quorum: quorum}}
	if l.log, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(10 + i)}, 32))
		vkey, err := release.WitnessKey(fmt.Sprintf("w%d.test", i), key.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		l.witnesses = append(l.witnesses, key)
		l.trust.Witnesses = append(l.trust.Witnesses, vkey)
	}
	return l
}

// tree is a Merkle tree in memory.
type tree struct {
	hashes tlog.HashReaderFunc
	stored []tlog.Hash
	n      int64
}

func newTree(t testing.TB, leaves ...[]byte) *tree {
	t.Helper()
	tr := &tree{}
	tr.hashes = func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, tr.stored[i])
		}
		return out, nil
	}
	for _, leaf := range leaves {
		more, err := tlog.StoredHashes(tr.n, leaf, tr.hashes)
		if err != nil {
			t.Fatal(err)
		}
		tr.stored = append(tr.stored, more...)
		tr.n++
	}
	return tr
}

func (tr *tree) text(t testing.TB) string {
	t.Helper()
	root, err := tlog.TreeHash(tr.n, tr.hashes)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\n%d\n%s\n", origin, tr.n, root)
}

// cosign returns the note line of witness i at a time.
func (l *lab) cosign(i int, seconds uint64, text string) string {
	w, err := release.ParseWitness(l.trust.Witnesses[i])
	if err != nil {
		panic(err)
	}
	raw := binary.BigEndian.AppendUint32(nil, w.KeyHash())
	raw = binary.BigEndian.AppendUint64(raw, seconds)
	raw = append(raw, ed25519.Sign(l.witnesses[i], release.CosignatureMessage(seconds, []byte(text)))...)
	return fmt.Sprintf("\u2014 %s %s\n", w.Name(), base64.StdEncoding.EncodeToString(raw))
}

// checkpoint signs text by the log and the given witnesses.
func (l *lab) checkpoint(t testing.TB, text string, witnesses ...int) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, l.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range witnesses {
		signed = append(signed, l.cosign(i, 1700000000, text)...)
	}
	return signed
}

func entry(n int) release.Entry {
	return release.Entry{Target: fmt.Sprintf("acme/desk1/1.0.%d/phone.efi", n), SHA256: strings.Repeat(fmt.Sprintf("%02x", n), 32),
		Length: 1000 + int64(n), Release: fmt.Sprintf("1.0.%d", n), Sequence: uint64(n)}
}

func leaves(t testing.TB, entries ...release.Entry) (out [][]byte) {
	t.Helper()
	for _, e := range entries {
		leaf, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, leaf)
	}
	return out
}

// prove makes the proof of leaf i of a tree of five releases.
func (l *lab) prove(t testing.TB, i int64, witnesses ...int) []byte {
	t.Helper()
	data := leaves(t, entry(0), entry(1), entry(2), entry(3), entry(4))
	tr := newTree(t, data...)
	path, err := tlog.ProveRecord(tr.n, i, tr.hashes)
	if err != nil {
		t.Fatal(err)
	}
	return release.Proof{UntrustedLeaf: data[i], Index: i, Path: path, Checkpoint: l.checkpoint(t, tr.text(t), witnesses...)}.Marshal()
}

func TestVerifyProof(t *testing.T) {
	l := newLab(t, 2)
	good := string(l.prove(t, 2, 0, 1))
	edit := func(old, new string) []byte {
		if !strings.Contains(good, old) {
			t.Fatalf("the proof holds no %q", old)
		}
		return []byte(strings.Replace(good, old, new, 1))
	}
	lines := strings.Split(good, "\n")
	extra, path := lines[1]+"\n", lines[3]
	logLine, witnessLine := lines[len(lines)-4]+"\n", lines[len(lines)-2]+"\n"
	stranger := newLab(t, 2)
	skey, _, _ := note.GenerateKey(seeded(99), origin)
	stranger.log, _ = note.NewSigner(skey)
	data := leaves(t, entry(0), entry(1))
	other := newTree(t, data...)

	tests := []struct {
		name  string
		proof []byte
		entry release.Entry
		want  error
	}{
		{"two witnesses", []byte(good), entry(2), nil},
		{"three witnesses", l.prove(t, 2, 0, 1, 2), entry(2), nil},
		{"first leaf", l.prove(t, 0, 1, 2), entry(0), nil},
		{"last leaf", l.prove(t, 4, 1, 2), entry(4), nil},
		{"without the extra line", edit(extra, ""), entry(2), nil},
		{"signature of a stranger beside", []byte(good + "\u2014 stranger.test AAAAAAAA\n"), entry(2), nil},
		{"no proof at all", nil, entry(2), release.ErrNotLogged},
		{"never logged", edit(extra, ""), entry(7), release.ErrNotLogged},
		{"never logged, extra line lies", l.lie(t), entry(7), release.ErrNotLogged},
		{"wrong index", edit("index 2\n", "index 3\n"), entry(2), release.ErrNotLogged},
		{"index beyond the tree", edit("index 2\n", "index 5\n"), entry(2), release.ErrNotLogged},
		{"path altered", edit(path, lines[4]), entry(2), release.ErrNotLogged},
		{"path too short", edit(path+"\n", ""), entry(2), release.ErrNotLogged},
		{"path too long", edit(path, path+"\n"+path), entry(2), release.ErrNotLogged},
		{"of another release", l.prove(t, 3, 0, 1), entry(2), release.ErrProofOfAnother},
		{"same release, other bytes", []byte(good), func() release.Entry { e := entry(2); e.SHA256 = strings.Repeat("ee", 32); return e }(), release.ErrProofOfAnother},
		{"same bytes, other sequence", []byte(good), func() release.Entry { e := entry(2); e.Sequence++; return e }(), release.ErrProofOfAnother},
		{"log signature missing", edit(logLine, ""), entry(2), release.ErrLogSignature},
		{"log key of the same name, another key", stranger.prove(t, 2, 0, 1), entry(2), release.ErrLogSignature},
		{"size altered", edit("\n5\n", "\n6\n"), entry(2), release.ErrLogSignature},
		{"one witness", edit(witnessLine, ""), entry(2), release.ErrWitnessesMissing},
		{"no witness", l.prove(t, 2), entry(2), release.ErrWitnessesMissing},
		{"one witness twice", []byte(good[:len(good)-len(witnessLine)] + lines[len(lines)-3] + "\n"), entry(2), release.ErrWitnessesMissing},
		{"witness signed another tree", release.Proof{UntrustedLeaf: leaves(t, entry(2))[0], Index: 2,
			Checkpoint: append(l.checkpoint(t, newTree(t, data...).text(t), 0), l.cosign(1, 1, newTree(t, data[:1]...).text(t))...)}.Marshal(), entry(2), release.ErrWitnessesMissing},
		{"witness altered the time", edit(witnessLine, l.retimed(t, witnessLine)), entry(2), release.ErrWitnessesMissing},
		{"origin of another log", release.Proof{Index: 0, Checkpoint: l.checkpoint(t, strings.Replace(other.text(t), origin, "other.test", 1), 0, 1)}.Marshal(), entry(0), release.ErrLogSignature},
		{"header", edit("tlog-proof@v1", "tlog-proof@v2"), entry(2), release.ErrProofMalformed},
		{"index with a zero before", edit("index 2\n", "index 02\n"), entry(2), release.ErrProofMalformed},
		{"index with a sign", edit("index 2\n", "index +2\n"), entry(2), release.ErrProofMalformed},
		{"index negative", edit("index 2\n", "index -2\n"), entry(2), release.ErrProofMalformed},
		{"no index", edit("index 2\n", ""), entry(2), release.ErrProofMalformed},
		{"carriage returns", edit("index 2\n", "index 2\r\n"), entry(2), release.ErrProofMalformed},
		{"path not canonical", edit(path, path[:42]+"B="), entry(2), release.ErrProofMalformed},
		{"path of 64 hashes", edit(path+"\n", strings.Repeat(path+"\n", 64)), entry(2), release.ErrProofMalformed},
		{"data behind the signatures", []byte(good + "more\n"), entry(2), release.ErrProofMalformed},
		{"too large", []byte(good + strings.Repeat("\n", release.MaxProof)), entry(2), release.ErrProofMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := release.VerifyProof(tt.proof, tt.entry, l.trust)
			if !errors.Is(err, tt.want) {
				t.Fatalf("VerifyProof() = %v, want %v", err, tt.want)
			}
			for _, kind := range kinds() {
				if errors.Is(err, kind) != (kind == tt.want) {
					t.Errorf("VerifyProof() = %v, is also %v", err, kind)
				}
			}
		})
	}
}

func kinds() []error {
	return []error{release.ErrNotLogged, release.ErrProofOfAnother, release.ErrLogSignature, release.ErrWitnessesMissing, release.ErrProofMalformed}
}

// lie is a true proof of release 2 whose extra line says release 7.
func (l *lab) lie(t *testing.T) []byte {
	p, err := release.UntrustedParseProof(l.prove(t, 2, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	p.UntrustedLeaf = leaves(t, entry(7))[0]
	return p.Marshal()
}

// retimed returns a cosignature line with one second more in its time.
func (l *lab) retimed(t *testing.T, line string) string {
	i := strings.LastIndex(line, " ")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line[i:]))
	if err != nil {
		t.Fatal(err)
	}
	raw[11]++
	return line[:i+1] + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// A fork: two trees of one size. Each is signed by the log, and witness 0 was
// won over to the second; with a quorum of two a phone still refuses it.
func TestForkedLog(t *testing.T) {
	l := newLab(t, 2)
	forged := entry(1)
	forged.SHA256 = strings.Repeat("66", 32)
	data := leaves(t, entry(0), forged)
	fork := newTree(t, data...)
	path, err := tlog.ProveRecord(fork.n, 1, fork.hashes)
	if err != nil {
		t.Fatal(err)
	}
	proof := release.Proof{UntrustedLeaf: data[1], Index: 1, Path: path, Checkpoint: l.checkpoint(t, fork.text(t), 0)}.Marshal()
	if err := release.VerifyProof(proof, forged, l.trust); !errors.Is(err, release.ErrWitnessesMissing) {
		t.Errorf("VerifyProof(fork) = %v, want %v", err, release.ErrWitnessesMissing)
	}
	l.trust.Quorum = 1 // the same proof is refused for that reason alone
	if err := release.VerifyProof(proof, forged, l.trust); err != nil {
		t.Errorf("VerifyProof(fork, quorum 1) = %v, want nil", err)
	}
}

func TestTruncatedProof(t *testing.T) {
	l := newLab(t, 2)
	good := l.prove(t, 2, 0, 1)
	for n := range good {
		if err := release.VerifyProof(good[:n], entry(2), l.trust); err == nil {
			t.Errorf("VerifyProof(first %d of %d bytes) = nil, want an error", n, len(good))
		}
	}
}

func TestFlippedProof(t *testing.T) {
	l := newLab(t, 2)
	good := l.prove(t, 2, 0, 1)
	start := bytes.Index(good, []byte("index ")) // the extra line is not part of what is proved
	for i := start; i < len(good); i++ {
		if i+1 < len(good) && good[i+1] == '=' {
			continue // its low bits are padding, which the note package does not look at
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0x04
		if err := release.VerifyProof(bad, entry(2), l.trust); err == nil {
			t.Errorf("VerifyProof(byte %d altered) = nil, want an error", i)
		}
	}
}

// The clock is not asked: cosignatures of 1970 and of 2099 count alike.
func TestCosignatureTimes(t *testing.T) {
	l := newLab(t, 2)
	data := leaves(t, entry(0))
	text := newTree(t, data...).text(t)
	checkpoint := append(l.checkpoint(t, text), l.cosign(0, 0, text)+l.cosign(1, 4070908800, text)...)
	if err := release.VerifyProof(release.Proof{Checkpoint: checkpoint}.Marshal(), entry(0), l.trust); err != nil {
		t.Errorf("VerifyProof(1970 and 2099) = %v, want nil", err)
	}
	checkpoint = append(l.checkpoint(t, text, 0), l.cosign(1, 1<<63, text)...)
	if err := release.VerifyProof(release.Proof{Checkpoint: checkpoint}.Marshal(), entry(0), l.trust); !errors.Is(err, release.ErrWitnessesMissing) {
		t.Errorf("VerifyProof(time of 2^63) = %v, want %v", err, release.ErrWitnessesMissing)
	}
}

// An independent implementation of cosignature/v1 agrees with ours.
func TestCosignaturePeer(t *testing.T) {
	skey, vkey, err := note.GenerateKey(seeded(42), "peer.test/w")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := formats.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = formats.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	ours, err := release.ParseWitness(vkey)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("o.test\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
	sig, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	if !ours.Verify(text, sig) || ours.KeyHash() != signer.KeyHash() || ours.Name() != signer.Name() {
		t.Errorf("Verify(peer's signature) = false, key ID %08x, peer's %08x", ours.KeyHash(), signer.KeyHash())
	}
	sig[len(sig)-1] ^= 1
	if ours.Verify(text, sig) {
		t.Error("Verify(altered signature) = true, want false")
	}
}

func TestTrustWitnesses(t *testing.T) {
	l := newLab(t, 1)
	key := l.witnesses[0].Public().(ed25519.PublicKey)
	alias, err := release.WitnessKey("alias.test", key)
	if err != nil {
		t.Fatal(err)
	}
	w := l.trust.Witnesses
	tests := []struct {
		name      string
		witnesses []string
		quorum    int
		ok        bool
	}{
		{"three", w, 2, true},
		{"quorum of none", w, 0, false},
		{"quorum of more than there are", w, 4, false},
		{"one key under two names", []string{w[0], alias}, 1, false},
		{"one witness twice", []string{w[0], w[0]}, 1, false},
		{"key of a log", []string{l.trust.Log}, 1, false},
		{"wrong key ID", []string{strings.Replace(w[0], "+", "+0", 1)}, 1, false},
		{"rubbish", []string{"x"}, 1, false},
	}
	for _, tt := range tests {
		trust := &release.Trust{Log: l.trust.Log, Witnesses: tt.witnesses, Quorum: tt.quorum}
		if err := trust.CheckWitnesses(); (err == nil) != tt.ok {
			t.Errorf("%s: CheckWitnesses() = %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func FuzzVerifyProof(f *testing.F) {
	l := newLab(f, 2)
	good := l.prove(f, 2, 0, 1)
	f.Add(good)
	f.Add(l.prove(f, 0))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := release.UntrustedParseProof(raw)
		if err == nil && !bytes.Equal(p.Marshal(), raw) {
			t.Errorf("UntrustedParseProof(%q) took another encoding", raw)
		}
		if release.VerifyProof(raw, entry(7), l.trust) == nil {
			t.Errorf("VerifyProof(%q) = nil for a release that nobody logged", raw)
		}
	})
}

func BenchmarkVerifyProof(b *testing.B) {
	l := newLab(b, 2)
	good := l.prove(b, 2, 0, 1)
	for b.Loop() {
		if err := release.VerifyProof(good, entry(2), l.trust); err != nil {
			b.Fatal(err)
		}
	}
}
