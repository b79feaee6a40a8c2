package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	metaPause      = "pause:"
	metaStorms     = "storms:" // until when a dataset's storms are ignored, Unix ms
	sqlSetStorms   = "INSERT INTO freshet_meta (name, value) SELECT ?, " + mysql.NowMillis + " + ? ON DUPLICATE KEY UPDATE value = " + mysql.NowMillis + " + ?"
	sqlStorms      = "SELECT COUNT(*) FROM freshet_meta WHERE name = ? AND CAST(CAST(value AS CHAR) AS SIGNED) > " + mysql.NowMillis
	sqlMetaOf      = "SELECT name, value FROM freshet_meta WHERE name LIKE ?"
	sqlAddPause    = "INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name"
	sqlRemovePause = "DELETE FROM freshet_meta WHERE name = ?"
)

// metaOf reads the values whose names begin with prefix, under the rest of their names. prefix holds no wildcard.
func (m *MySQL) metaOf(ctx context.Context, prefix string) (values map[string][]byte, err error) {
	rows, err := m.db.QueryContext(ctx, sqlMetaOf, []byte(prefix+"%"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	values = map[string][]byte{}
	for rows.Next() {
		var name, value []byte
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		values[strings.TrimPrefix(string(name), prefix)] = value
	}
	return values, rows.Err()
}

// Pause says who set a dataset aside for all workers, why, and since when by the database's clock.
type Pause struct {
	Who   string    `json:"who"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}

// Pause sets a dataset aside: every worker stops at the end of its running batch, also one that is started later, until
// Resume. A dataset that is paused already keeps its first pause; the one in force is given back.
func (m *MySQL) Pause(ctx context.Context, dataset, who, why string) (Pause, error) {
	var now int64
	if err := m.db.QueryRowContext(ctx, sqlNow).Scan(&now); err != nil {
		return Pause{}, mysql.Wrap("read clock", "", err)
	}
	value, err := json.Marshal(Pause{Who: who, Why: why, Since: time.UnixMilli(now).UTC()})
	if err != nil {
		return Pause{}, fmt.Errorf("encode pause: %w", err)
	}
	if _, err = m.db.ExecContext(ctx, sqlAddPause, []byte(metaPause+dataset), value); err != nil {
		return Pause{}, mysql.Wrap("note pause", "", err)
	}
	pauses, err := m.Pauses(ctx)
	return pauses[dataset], err
}

// Resume ends a dataset's pause; workers notice within seconds. It reports whether there was one. For as long as ignoreStorms,
// storms of dead letters do not pause the dataset again: 0 for not at all.
func (m *MySQL) Resume(ctx context.Context, dataset string, ignoreStorms time.Duration) (bool, error) {
	if ms := ignoreStorms.Milliseconds(); ms > 0 {
		if _, err := m.db.ExecContext(ctx, sqlSetStorms, []byte(metaStorms+dataset), ms, ms); err != nil {
			return false, mysql.Wrap("note that storms are ignored", "", err)
		}
	}
	res, err := m.db.ExecContext(ctx, sqlRemovePause, []byte(metaPause+dataset))
	if err != nil {
		return false, mysql.Wrap("remove pause", "", err)
	}
	n, err := res.RowsAffected()
	return n > 0, mysql.Wrap("remove pause", "", err)
}

// IgnoresStorms reports whether Resume let storms of the dataset pass and that time is not over.
func (m *MySQL) IgnoresStorms(ctx context.Context, dataset string) (bool, error) {
	var n int
	err := m.db.QueryRowContext(ctx, sqlStorms, []byte(metaStorms+dataset)).Scan(&n)
	return n > 0, mysql.Wrap("read whether storms are ignored", "", err)
}

// Pauses gives the paused datasets. A note that cannot be read counts as a pause all the same.
func (m *MySQL) Pauses(ctx context.Context) (map[string]Pause, error) {
	values, err := m.metaOf(ctx, metaPause)
	if err != nil {
		return nil, mysql.Wrap("read pauses", "", err)
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
