// Package sqlstore is the durable store of the service: SQLite, embedded. The
// schema and the statements are plain SQL with $n parameters, so that
// PostgreSQL can run them too. It holds no rule about what it stores.
package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver registers itself with database/sql

	"ringfence/provisioning/fleet"
	"ringfence/provisioning/wire/device"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store implements the Store interfaces of fleet, lockcfg, audit, admin and
// push. Safe for concurrent use.
type Store struct{ db *sql.DB }

var _ fleet.Store = (*Store)(nil)

// Open opens or makes the database at path and brings its schema up to date.
// A commit is on stable storage when it returns: WAL with synchronous=FULL.
func Open(ctx context.Context, path string) (*Store, error) {
	query := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+path+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), db.Close())
	}
	return &Store{db}, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// Close waits for running statements.
func (s *Store) Close() error { return s.db.Close() }

// Device implements fleet.Store.
func (s *Store) Device(ctx context.Context, id device.ID) (*fleet.Device, error) {
	d := new(fleet.Device)
	err := get(s.db.QueryRowContext(ctx, "SELECT body FROM device WHERE id = $1", string(id)), d)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fleet.ErrUnknown
	}
	return d, err
}

// Devices implements fleet.Store.
func (s *Store) Devices(ctx context.Context) ([]*fleet.Device, error) {
	return list[fleet.Device](ctx, s.db, "SELECT body FROM device ORDER BY id")
}

// UpdateDevices implements fleet.Store.
func (s *Store) UpdateDevices(ctx context.Context, ids []device.ID, edit func(*fleet.Device) error) error {
	return s.atomically(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			d := &fleet.Device{ID: id}
			err := get(tx.QueryRowContext(ctx, "SELECT body FROM device WHERE id = $1", string(id)), d)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			if err := edit(d); err != nil {
				return err
			}
			if err := exec(ctx, tx, d, `INSERT INTO device (id, state, body) VALUES ($1, $2, $3)
				ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body`, string(id), string(d.State)); err != nil {
				return fmt.Errorf("store device %s: %w", id, err)
			}
		}
		return nil
	})
}

func (s *Store) atomically(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the first error says what went wrong
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// exec runs a statement whose last parameter is the JSON of body.
func exec(ctx context.Context, db executor, body any, query string, args ...any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, query, append(args, string(text))...)
	return err
}

// get decodes the one JSON column of row.
func get(row *sql.Row, v any) error {
	var text string
	if err := row.Scan(&text); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), v)
}

func list[T any](ctx context.Context, db *sql.DB, query string, args ...any) ([]*T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []*T{}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		v := new(T)
		if err := json.Unmarshal([]byte(text), v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
