package replica

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	// redrivenChunk is how many redriven letters are listed at once, reapplyChunk how many are read with their records and
	// written in one transaction.
	redrivenChunk = 1000
	reapplyChunk  = 100
	// redriveLimit bounds a transaction that redrives letters.
	redriveLimit = time.Minute
	// redrivenSlack is how much older than its commit the time of a redrive may be.
	redrivenSlack = 2 * redriveLimit
)

// Reapplied remembers which redriven letters ApplyRedriven has applied to a table, so that a later pass applies only those
// that were redriven since. The zero value remembers none. It is for one table and one goroutine.
type Reapplied struct {
	at     time.Time // when the last pass began, by the database's clock; zero before the first
	recent map[LetterID]time.Time
}

// ApplyRedriven applies to ds' table, through the guards, the events of the dataset's dead letters that were ever redriven
// and that have does not know: a compacted topic may not hold them any more. It returns how many it applied; rows that are
// newer stay. A letter that cannot be read or that the table refuses is left out.
func (m *DB) ApplyRedriven(ctx context.Context, ds *schemas.Dataset, have *Reapplied) (n int, err error) {
	began, err := mysql.Now(ctx, m.pool.DB())
	if err != nil {
		return 0, err
	}
	q := LetterQuery{Dataset: ds.Name, State: StateRedriven, Limit: redrivenChunk}
	if !have.at.IsZero() {
		q.Changed = have.at.Add(-redrivenSlack)
	}
	recent := map[LetterID]time.Time{}
	for {
		letters, err := m.Letters.List(ctx, q)
		if err != nil {
			return n, err
		}
		if len(letters) == 0 {
			break
		}
		last := letters[len(letters)-1].ID()
		q.After = &last
		for _, l := range letters {
			recent[l.ID()] = l.Updated
		}
		letters = slices.DeleteFunc(letters, func(l StoredLetter) bool { return have.recent[l.ID()].Equal(l.Updated) })
		for chunk := range slices.Chunk(letters, reapplyChunk) {
			applied, err := m.reapply(ctx, ds, chunk)
			if n += applied; err != nil {
				return n, err
			}
		}
	}
	have.at = time.UnixMilli(began)
	for id, at := range recent {
		if have.at.Sub(at) > redrivenSlack {
			delete(recent, id)
		}
	}
	have.recent = recent
	return n, nil
}

// reapply reads letters with their records and applies their events in one transaction.
func (m *DB) reapply(ctx context.Context, ds *schemas.Dataset, listed []StoredLetter) (n int, err error) {
	q := LetterQuery{Dataset: ds.Name, State: StateRedriven, Limit: len(listed), Content: true}
	for _, l := range listed {
		q.IDs = append(q.IDs, l.ID())
	}
	letters, err := m.Letters.List(ctx, q)
	if err != nil {
		return 0, err
	}
	topics, err := m.topicsOf(ctx, letters)
	if err != nil {
		return 0, err
	}
	rd := letterReader{topics: topics}
	var changes []*Change
	for i := range letters {
		if c, err := rd.change(ds, &letters[i]); err == nil {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return 0, nil
	}
	slices.SortStableFunc(changes, func(a, b *Change) int { return cmp.Compare(a.Version, b.Version) })
	err = m.pool.Transact(ctx, "apply redriven dead letters", func(ctx context.Context, w *mysql.Conn) error {
		r := &run{m: m, w: w, b: &Batch{}, parts: m.split(newest(changes))}
		if err := r.checkHashes(ctx); err != nil {
			return err
		}
		var took []*Change
		return r.send(ctx, r.parts[0].t, r.parts[0].rows, &took)
	})
	if err != nil {
		return 0, err
	}
	return len(changes), nil
}
