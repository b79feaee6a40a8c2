package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
)

const (
	sqlSetStorms = "INSERT INTO freshet_meta (name, value) SELECT ?, " + mysql.NowMillis + " + ? ON DUPLICATE KEY UPDATE value = " + mysql.NowMillis + " + ?"
	sqlStorms    = "SELECT COUNT(*) FROM freshet_meta WHERE name = ? AND CAST(CAST(value AS CHAR) AS SIGNED) > " + mysql.NowMillis
)

// Pauses keeps the pauses that hold for all workers and outlive them. It is safe for concurrent use.
type Pauses struct{ pool *mysql.Pool }

// Pause is who paused a dataset for all workers, why, and since when by the database's clock.
type Pause struct {
	Who   string    `json:"who"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}

// Add pauses a dataset: every worker stops at the end of its running batch, also one that is started later, until
// End. A dataset that is paused already keeps its first pause; the one in force is returned.
func (l *Pauses) Add(ctx context.Context, dataset, who, why string) (Pause, error) {
	now, err := mysql.Now(ctx, l.pool.DB())
	if err != nil {
		return Pause{}, err
	}
	value, err := json.Marshal(Pause{Who: who, Why: why, Since: time.UnixMilli(now).UTC()})
	if err != nil {
		return Pause{}, fmt.Errorf("encode pause: %w", err)
	}
	if _, err = l.pool.DB().ExecContext(ctx, meta.SQLAdd, []byte(meta.Pause+dataset), value); err != nil {
		return Pause{}, mysql.Wrap("note pause", "", err)
	}
	pauses, err := l.All(ctx)
	return pauses[dataset], err
}

// End ends a dataset's pause; workers notice within seconds. It reports whether there was one. For as long as ignoreStorms,
// storms of dead letters do not pause the dataset again: 0 for not at all.
func (l *Pauses) End(ctx context.Context, dataset string, ignoreStorms time.Duration) (bool, error) {
	if ms := ignoreStorms.Milliseconds(); ms > 0 {
		if _, err := l.pool.DB().ExecContext(ctx, sqlSetStorms, []byte(meta.Storms+dataset), ms, ms); err != nil {
			return false, mysql.Wrap("note that storms are ignored", "", err)
		}
	}
	res, err := l.pool.DB().ExecContext(ctx, meta.SQLRemove, []byte(meta.Pause+dataset))
	if err != nil {
		return false, mysql.Wrap("remove pause", "", err)
	}
	n, err := res.RowsAffected()
	return n > 0, mysql.Wrap("remove pause", "", err)
}

// IgnoresStorms reports whether End let storms of the dataset pass and that time is not over.
func (l *Pauses) IgnoresStorms(ctx context.Context, dataset string) (bool, error) {
	var n int
	err := l.pool.DB().QueryRowContext(ctx, sqlStorms, []byte(meta.Storms+dataset)).Scan(&n)
	return n > 0, mysql.Wrap("read whether storms are ignored", "", err)
}

// All returns the paused datasets. A note that cannot be read counts as a pause all the same.
func (l *Pauses) All(ctx context.Context) (map[string]Pause, error) {
	values, err := meta.All(ctx, l.pool.DB(), "read pauses", meta.Pause)
	if err != nil {
		return nil, err
	}
	pauses := make(map[string]Pause, len(values))
	for dataset, value := range values {
		var p Pause
		if json.Unmarshal(value, &p) != nil {
			p = Pause{Why: "the note of the pause cannot be read"}
		}
		pauses[dataset] = p
	}
	return pauses, nil
}
