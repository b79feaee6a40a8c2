package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
)

// Restart is an operator's decision where a source continues that is stopped, because records are lost or a batch cannot be
// read.
type Restart struct {
	At    int64     `json:"at"`
	Who   string    `json:"who"`
	Since time.Time `json:"since"`
}

// Restarts keeps decisions where sources that are stopped continue. It is safe for concurrent use.
type Restarts struct{ pool *mysql.Pool }

// Note notes a decision for the worker that owns the source, now or later; the newest counts.
func (r *Restarts) Note(ctx context.Context, source string, at int64, who string) error {
	now, err := mysql.Now(ctx, r.pool.DB())
	if err != nil {
		return err
	}
	value, err := json.Marshal(Restart{At: at, Who: who, Since: time.UnixMilli(now).UTC()})
	if err != nil {
		return fmt.Errorf("encode restart: %w", err)
	}
	_, err = r.pool.DB().ExecContext(ctx, meta.SQLSet, []byte(meta.Restart+source), value)
	return mysql.Wrap("note restart of source", "", err)
}

// All returns the decisions in force, by source. One that cannot be read is left out.
func (r *Restarts) All(ctx context.Context) (map[string]Restart, error) {
	values, err := meta.All(ctx, r.pool.DB(), "read restarts of sources", meta.Restart)
	if err != nil {
		return nil, err
	}
	restarts := make(map[string]Restart, len(values))
	for source, value := range values {
		var r Restart
		if json.Unmarshal(value, &r) == nil {
			restarts[source] = r
		}
	}
	return restarts, nil
}

// Done removes a decision that was carried out.
func (r *Restarts) Done(ctx context.Context, source string) error {
	_, err := r.pool.DB().ExecContext(ctx, meta.SQLRemove, []byte(meta.Restart+source))
	return mysql.Wrap("remove restart of source", "", err)
}
