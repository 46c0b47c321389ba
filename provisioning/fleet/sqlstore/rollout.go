package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"ringfence/provisioning/rollout"
)

var _ rollout.Store = (*Store)(nil)

// Rollouts implements rollout.Store.
func (s *Store) Rollouts(ctx context.Context) ([]*rollout.Rollout, error) {
	return list[rollout.Rollout](ctx, s.db, "SELECT body FROM rollout ORDER BY seq")
}

// RolloutPhones implements rollout.Store.
func (s *Store) RolloutPhones(ctx context.Context, id string) ([]*rollout.Phone, error) {
	return list[rollout.Phone](ctx, s.db, "SELECT body FROM rollout_phone WHERE rollout = $1 ORDER BY position", id)
}

// PutRollout implements rollout.Store. A phone keeps the position that it was
// first stored at.
func (s *Store) PutRollout(ctx context.Context, r *rollout.Rollout, phones []rollout.Phone) error {
	return s.atomically(ctx, func(tx *sql.Tx) error {
		err := exec(ctx, tx, r, `INSERT INTO rollout (id, seq, body) VALUES ($1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM rollout), $2)
			ON CONFLICT (id) DO UPDATE SET body = excluded.body`, r.ID)
		if err != nil {
			return fmt.Errorf("store rollout %s: %w", r.ID, err)
		}
		for i, p := range phones {
			if err := exec(ctx, tx, p, `INSERT INTO rollout_phone (rollout, device, position, body) VALUES ($1, $2, $3, $4)
				ON CONFLICT (rollout, device) DO UPDATE SET body = excluded.body`, r.ID, string(p.Device), i); err != nil {
				return fmt.Errorf("store phone %s of rollout %s: %w", p.Device, r.ID, err)
			}
		}
		return nil
	})
}
