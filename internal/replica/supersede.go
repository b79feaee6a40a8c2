package replica

import (
	"context"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	sqlOpen   = "SELECT source, `off`, idx, record_key, version FROM freshet_dead_letter WHERE dataset = ? AND state = 'open'"
	sqlGlance = sqlOpen + " LIMIT ?"
	sqlMark   = "UPDATE freshet_dead_letter SET state = 'superseded', updated_at = " + mysql.NowMillis +
		" WHERE source = ? AND `off` = ? AND idx = ? AND state = 'open'"
)

// openLetter is what decides whether a letter is overtaken.
type openLetter struct {
	source  []byte
	off     int64
	idx     int64
	key     []byte
	version *int64
}

// supersede is the rest of step 4 of DB.Apply: letters whose record got a newer change need no attention any more.
//
// Every batch asks whether its dataset has open letters at all: one look into an index. That another transaction may be
// writing a letter right now is settleLetters' concern.
func (r *run) supersede(ctx context.Context) error {
	for _, p := range r.applied {
		if len(p.rows) == 0 {
			continue
		}
		open, err := openLetters(ctx, r.w, sqlGlance, []byte(p.t.ds.Name), openGlance+1)
		if err != nil {
			return err
		}
		if len(open) == 0 {
			continue
		}
		by := make(map[string]*Change, len(p.rows))
		for _, c := range p.rows {
			if key := recordKey(p.t, c); key != "" {
				by[key] = c
			}
		}
		if len(open) > openGlance {
			if open, err = r.openOf(ctx, p.t, by); err != nil {
				return err
			}
		}
		for _, l := range open {
			if c, ok := by[string(l.key)]; ok && r.overtakes(c, l) {
				n, err := r.w.Exec(ctx, sqlMark, l.source, l.off, l.idx)
				if err != nil {
					return mysql.Wrap("mark dead letter superseded", "", err)
				}
				r.superseded += n
			}
		}
	}
	return nil
}

// overtakes reports whether c is a newer state of the letter's record. A letter whose version could not be read is older if
// it lies before c in the same source.
func (r *run) overtakes(c *Change, l openLetter) bool {
	if l.version != nil {
		return *l.version <= c.Version
	}
	return string(l.source) == r.b.Source && l.off < c.Offset
}

// openOf reads the open letters of the given records.
func (r *run) openOf(ctx context.Context, t *table, by map[string]*Change) ([]openLetter, error) {
	keys := make([]any, 0, len(by))
	for key := range by {
		keys = append(keys, []byte(key))
	}
	var open []openLetter
	for len(keys) > 0 {
		n := min(len(keys), keyChunk)
		text := sqlOpen + " AND record_key IN (?" + strings.Repeat(",?", keyChunk-1) + ")"
		args := make([]any, 0, keyChunk+1)
		args = append(args, []byte(t.ds.Name))
		args = append(args, keys[:n]...)
		for len(args) < cap(args) {
			args = append(args, keys[0]) // one size of statement, filled up
		}
		keys = keys[n:]
		more, err := openLetters(ctx, r.w, text, args...)
		if err != nil {
			return nil, err
		}
		open = append(open, more...)
	}
	return open, nil
}

func openLetters(ctx context.Context, w *mysql.Conn, text string, args ...any) ([]openLetter, error) {
	return mysql.Collect(ctx, w, "read open dead letters", text, args, func(l *openLetter) []any {
		return []any{&l.source, &l.off, &l.idx, &l.key, &l.version}
	})
}

// settleLetters looks once more at letters that were written as open, after their commit. A writer of another source may
// have applied a newer change of the same record meanwhile: one that looked for letters before the commit did not see
// ours. Its row is locked or committed by now, so a locking read finds it; one that looks later finds the letter.
func settleLetters(ctx context.Context, pool *mysql.Pool, letters []*letter) (overtaken int64, err error) {
	if len(letters) == 0 {
		return 0, nil
	}
	return overtaken, pool.Transact(ctx, "settle dead letters", func(ctx context.Context, w *mysql.Conn) error {
		overtaken = 0
		for _, l := range letters {
			version, found, err := rowVersion(ctx, w, l, " LOCK IN SHARE MODE")
			if err != nil {
				return err
			}
			if !found || l.Version > version {
				continue
			}
			n, err := w.Exec(ctx, sqlMark, l.source, l.Offset, int64(l.Index))
			if err != nil {
				return mysql.Wrap("mark dead letter superseded", "", err)
			}
			overtaken += n
		}
		return nil
	})
}
