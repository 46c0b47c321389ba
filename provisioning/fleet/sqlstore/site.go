package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ringfence/provisioning/audit"
	"ringfence/provisioning/lockcfg"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire/device"
)

var (
	_ trust.Store   = (*Store)(nil)
	_ lockcfg.Store = (*Store)(nil)
	_ audit.Log     = (*Store)(nil)
)

// Manufacturers implements trust.Store.
func (s *Store) Manufacturers(ctx context.Context) ([]*trust.Manufacturer, error) {
	return list[trust.Manufacturer](ctx, s.db, "SELECT body FROM manufacturer ORDER BY name")
}

// PutManufacturer implements trust.Store.
func (s *Store) PutManufacturer(ctx context.Context, m *trust.Manufacturer) error {
	return exec(ctx, s.db, m, "INSERT INTO manufacturer (name, body) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET body = excluded.body", m.Name)
}

// References implements trust.Store.
func (s *Store) References(ctx context.Context, model device.Model) ([]*trust.Reference, error) {
	return list[trust.Reference](ctx, s.db, "SELECT envelope FROM reference_value WHERE $1 = '' OR model = $1 ORDER BY model, release", string(model))
}

// PutReference implements trust.Store. A release that is there already must
// be the same.
func (s *Store) PutReference(ctx context.Context, r *trust.Reference) error {
	return s.atomically(ctx, func(tx *sql.Tx) error {
		old := new(trust.Reference)
		err := get(tx.QueryRowContext(ctx, "SELECT envelope FROM reference_value WHERE model = $1 AND release = $2", string(r.Model), r.Release), old)
		if err == nil && string(old.Envelope) != string(r.Envelope) {
			return fmt.Errorf("release %s of %s is stored already with other values", r.Release, r.Model)
		}
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return exec(ctx, tx, r, "INSERT INTO reference_value (model, release, manufacturer, envelope) VALUES ($1, $2, $3, $4)", string(r.Model), r.Release, r.Manufacturer)
	})
}

// Settings implements lockcfg.Store.
func (s *Store) Settings(ctx context.Context, scope string) (lockcfg.Settings, error) {
	settings := lockcfg.Settings{}
	err := get(s.db.QueryRowContext(ctx, "SELECT body FROM setting WHERE scope = $1", scope), &settings)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return settings, err
}

// AllSettings implements lockcfg.Store.
func (s *Store) AllSettings(ctx context.Context) (map[string]lockcfg.Settings, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT scope, body FROM setting")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[string]lockcfg.Settings)
	for rows.Next() {
		var scope, text string
		if err := rows.Scan(&scope, &text); err != nil {
			return nil, err
		}
		settings := lockcfg.Settings{}
		if err := json.Unmarshal([]byte(text), &settings); err != nil {
			return nil, fmt.Errorf("settings of %s: %w", scope, err)
		}
		all[scope] = settings
	}
	return all, rows.Err()
}

// UpdateSettings implements lockcfg.Store.
func (s *Store) UpdateSettings(ctx context.Context, scope string, edit func(lockcfg.Settings) error) error {
	return s.atomically(ctx, func(tx *sql.Tx) error {
		settings := lockcfg.Settings{}
		err := get(tx.QueryRowContext(ctx, "SELECT body FROM setting WHERE scope = $1", scope), &settings)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := edit(settings); err != nil {
			return err
		}
		return exec(ctx, tx, settings, "INSERT INTO setting (scope, body) VALUES ($1, $2) ON CONFLICT (scope) DO UPDATE SET body = excluded.body", scope)
	})
}

// UpdateIssued implements lockcfg.Store.
func (s *Store) UpdateIssued(ctx context.Context, id device.ID, edit func(*lockcfg.Issued) error) error {
	return s.atomically(ctx, func(tx *sql.Tx) error {
		issued := new(lockcfg.Issued)
		err := get(tx.QueryRowContext(ctx, "SELECT body FROM configuration WHERE device = $1", string(id)), issued)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		before := issued.Version
		if err := edit(issued); err != nil || issued.Version == before {
			return err
		}
		return exec(ctx, tx, issued, "INSERT INTO configuration (device, body) VALUES ($1, $2) ON CONFLICT (device) DO UPDATE SET body = excluded.body", string(id))
	})
}

// PutReport keeps what a phone reported: one row per call, the newest status
// only.
func (s *Store) PutReport(ctx context.Context, id device.ID, kind string, at time.Time, body any) error {
	return s.atomically(ctx, func(tx *sql.Tx) error {
		if kind == "status" {
			if _, err := tx.ExecContext(ctx, "DELETE FROM report WHERE device = $1 AND kind = $2", string(id), kind); err != nil {
				return err
			}
		}
		return exec(ctx, tx, body, "INSERT INTO report (device, kind, at, body) VALUES ($1, $2, $3, $4)", string(id), kind, at.UTC().Format(time.RFC3339Nano))
	})
}

// Reports returns the newest reports of one kind as JSON, newest first.
func (s *Store) Reports(ctx context.Context, id device.ID, kind string, limit int) ([]any, error) {
	rows, err := list[any](ctx, s.db, "SELECT body FROM report WHERE device = $1 AND kind = $2 ORDER BY at DESC LIMIT $3", string(id), kind, limit)
	all := make([]any, len(rows))
	for i, row := range rows {
		all[i] = *row
	}
	return all, err
}

// Append implements audit.Log.
func (s *Store) Append(ctx context.Context, e audit.Event) error {
	return s.atomically(ctx, func(tx *sql.Tx) error {
		last := new(audit.Event)
		err := get(tx.QueryRowContext(ctx, "SELECT body FROM audit ORDER BY seq DESC LIMIT 1"), last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		next, err := audit.Chain(*last, e)
		if err != nil {
			return err
		}
		return exec(ctx, tx, next, "INSERT INTO audit (seq, body) VALUES ($1, $2)", next.Seq)
	})
}

// Events returns up to limit events with a number above after, oldest first.
func (s *Store) Events(ctx context.Context, after uint64, limit int) ([]*audit.Event, error) {
	return list[audit.Event](ctx, s.db, "SELECT body FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2", after, limit)
}

// Head returns the number of the newest event, 0 when there is none.
func (s *Store) Head(ctx context.Context) (uint64, error) {
	var head uint64
	err := s.db.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM audit").Scan(&head)
	return head, err
}

// VerifyAudit checks the whole list and returns its head.
func (s *Store) VerifyAudit(ctx context.Context) (audit.Event, error) {
	var v audit.Verifier
	for {
		page, err := s.Events(ctx, v.Head().Seq, 1000)
		if err != nil || len(page) == 0 {
			return v.Head(), err
		}
		for _, e := range page {
			if err := v.Next(*e); err != nil {
				return v.Head(), err
			}
		}
	}
}
