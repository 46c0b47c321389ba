// Package audit is the service's append-only list of events. Each entry holds
// the digest of the one before it, so that a change, a gap or a reordering is
// found by [Verify]. It does not sign: who can replace the whole database can
// replace the list; compare the head with a copy kept elsewhere.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of one event's texts, in bytes; longer text is cut.
const (
	MaxDetail = 2048
	maxName   = 256 // actor, name and subject
)

// Event is one thing that happened.
type Event struct {
	Seq     uint64    `json:"seq"` // from 1, without gaps
	Time    time.Time `json:"time"`
	Actor   string    `json:"actor"`   // "device:<ID>", "admin:<name>", "service" or a network address
	Name    string    `json:"name"`    // e.g. "enroll.refused"
	Subject string    `json:"subject"` // device or object, "" when none
	Detail  string    `json:"detail"`  // one line
	Prev    string    `json:"prev"`    // hex SHA-256 of the entry before, 64 zeros for the first
	Hash    string    `json:"hash"`    // hex SHA-256 of this entry with an empty hash
}

// Log appends events durably.
type Log interface {
	// Append fills Seq, Prev and Hash. When it returns nil the event is on
	// stable storage.
	Append(ctx context.Context, e Event) error
}

// Chain returns e as the successor of prev; the zero prev starts the list.
func Chain(prev, e Event) (Event, error) {
	e.Seq, e.Prev = prev.Seq+1, prev.Hash
	if prev.Seq == 0 {
		e.Prev = hex.EncodeToString(make([]byte, sha256.Size))
	}
	e.Actor, e.Name, e.Subject = Line(e.Actor, maxName), Line(e.Name, maxName), Line(e.Subject, maxName)
	e.Detail = Line(e.Detail, MaxDetail)
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	hash, err := e.digest()
	e.Hash = hash
	return e, err
}

// Line makes one printable line of valid UTF-8 of what a stranger may have
// written. What JSON would change on its way to the store and back, such as a
// byte that is not UTF-8, would break the chain. It changes its own results
// no further.
func Line(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

func (e Event) digest() (string, error) {
	e.Hash = ""
	text, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("encode audit event: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Verifier checks a list entry by entry; the zero value expects the first.
type Verifier struct{ last Event }

// Next checks that e follows the entries given so far and was not altered.
func (v *Verifier) Next(e Event) error {
	want, err := Chain(v.last, e)
	if err != nil {
		return err
	}
	if e.Seq != want.Seq || e.Prev != want.Prev {
		return fmt.Errorf("audit entry %d does not follow entry %d: an entry was removed, added or moved", e.Seq, v.last.Seq)
	}
	if e.Hash != want.Hash {
		return fmt.Errorf("audit entry %d was altered", e.Seq)
	}
	v.last = e
	return nil
}

// Head is the last entry that was checked.
func (v *Verifier) Head() Event { return v.last }
