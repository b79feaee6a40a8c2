package bench

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	plainConns = 2    // connections of the consumer by hand, and of the bare statement
	plainChunk = 1000 // rows of one statement
)

// plainColumns are the columns of a plain table, as a consumer written by hand has them: no more than a version and a mark for
// deleted rows beside the data.
func plainColumns() []string {
	return []string{"id", "name", "email", "country", "n", "active", "score", "body", "deleted", "version"}
}

func (b *rig) plainTable() string { return mysql.Quote(b.ds.Replica.Table + "_plain") }

func (b *rig) createPlain(ctx context.Context) error {
	_, err := b.db.SQL().ExecContext(ctx, "CREATE TABLE "+b.plainTable()+" (id VARCHAR(32) NOT NULL PRIMARY KEY, name VARCHAR(100), email VARCHAR(100),"+
		" country VARCHAR(2), n BIGINT, active TINYINT(1), score DOUBLE, body VARCHAR(4000), deleted TINYINT NOT NULL, version BIGINT NOT NULL)"+
		" ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	if err != nil {
		return fmt.Errorf("create plain table: %w", err)
	}
	return nil
}

// plainUpsert is the guarded upsert as it is written by hand.
func (b *rig) plainUpsert(rows int) string {
	cols := plainColumns()
	one := "(?" + strings.Repeat(",?", len(cols)-1) + ")"
	text := "INSERT INTO " + b.plainTable() + " (" + strings.Join(cols, ", ") + ") VALUES " + one + strings.Repeat(","+one, rows-1)
	incoming, current := "VALUES(%s)", ""
	if b.db.Dialect() == mysql.ModernMySQL {
		text += " AS fresh"
		incoming, current = "fresh.%s", b.plainTable()+"."
	}
	set := make([]string, 0, len(cols)-1)
	for _, c := range cols[1:] {
		set = append(set, fmt.Sprintf("%s = IF("+incoming+" > %sversion, "+incoming+", %s%s)", c, "version", current, c, current, c))
	}
	return text + " ON DUPLICATE KEY UPDATE " + strings.Join(set, ", ")
}

// plainRow is a row on its way into a plain table.
type plainRow struct {
	key     string
	version int64
	args    []any
}

// newest keeps the newest state of each record of a batch: value and version by key. The values are decoded only then.
type newest map[string]state

type state struct {
	version int64
	value   []byte
	deleted bool
}

func (n newest) add(key []byte, s state) {
	if old, ok := n[string(key)]; !ok || old.version < s.version {
		n[string(key)] = s
	}
}

// rows decodes the states and returns them in the order of their keys.
func (n newest) rows() ([]plainRow, error) {
	out := make([]plainRow, 0, len(n))
	for key, s := range n {
		r := plainRow{key: key, version: s.version}
		if s.deleted {
			r.args = append(make([]any, 0, 10), key, nil, nil, nil, nil, nil, nil, nil, int64(1), s.version)
		} else {
			var v row
			if err := json.Unmarshal(s.value, &v); err != nil {
				return nil, fmt.Errorf("decode record %q: %w", key, err)
			}
			r.args = append(v.values(), int64(0), s.version)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b plainRow) int { return cmp.Compare(a.key, b.key) })
	return out, nil
}

// plainWriter writes batches on one connection, with a prepared statement for full chunks.
type plainWriter struct {
	b    *rig
	db   *sql.DB
	conn *sql.Conn
	full *sql.Stmt
	args []any
}

func (b *rig) newPlainWriter(ctx context.Context) (*plainWriter, error) {
	db, err := connect.DDL(b.cfg)
	if err != nil {
		return nil, err
	}
	w := &plainWriter{b: b, db: db}
	if w.conn, err = db.Conn(ctx); err == nil {
		w.full, err = w.conn.PrepareContext(ctx, b.plainUpsert(plainChunk))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare plain upsert: %w", err), w.Close())
	}
	return w, nil
}

// write writes a batch in one transaction.
func (w *plainWriter) write(ctx context.Context, rows []plainRow) error {
	if _, err := w.conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return fmt.Errorf("begin plain batch: %w", err)
	}
	for chunk := range slices.Chunk(rows, plainChunk) {
		w.args = w.args[:0]
		for _, r := range chunk {
			w.args = append(w.args, r.args...)
		}
		var err error
		if len(chunk) == plainChunk {
			_, err = w.full.ExecContext(ctx, w.args...)
		} else {
			_, err = w.conn.ExecContext(ctx, w.b.plainUpsert(len(chunk)), w.args...)
		}
		if err != nil {
			return fmt.Errorf("write plain batch: %w", err)
		}
	}
	if _, err := w.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit plain batch: %w", err)
	}
	return nil
}

// Close closes the connection.
func (w *plainWriter) Close() error {
	var errs []error
	if w.full != nil {
		errs = append(errs, w.full.Close())
	}
	if w.conn != nil {
		errs = append(errs, w.conn.Close())
	}
	return errors.Join(append(errs, w.db.Close())...)
}

// measureBare writes the rows of the topic with the bare statement. It reads the topic into memory first, which is not measured.
func (b *rig) measureBare(ctx context.Context, f ApplyConfig) (*Measure, error) {
	batches, err := b.bareBatches(ctx)
	if err != nil {
		return nil, err
	}
	meter, err := b.newMeter(ctx)
	if err != nil {
		return nil, err
	}
	feed := make(chan []plainRow)
	g, ctx := errgroup.WithContext(ctx)
	writers := make([]*plainWriter, plainConns)
	for i := range writers {
		if writers[i], err = b.newPlainWriter(ctx); err != nil {
			return nil, err
		}
	}
	meter.start()
	g.Go(func() error {
		defer close(feed)
		for _, rows := range batches {
			select {
			case feed <- rows:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for _, w := range writers {
		g.Go(func() error {
			for rows := range feed {
				if err := w.write(ctx, rows); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = g.Wait()
	m := meter.stop(f.Events)
	for _, w := range writers {
		err = errors.Join(err, w.Close())
	}
	return m, err
}

// bareBatches reads every partition and keeps, per batch, each record's newest row in key order, as consumers do.
func (b *rig) bareBatches(ctx context.Context) ([][]plainRow, error) {
	info, err := b.kafka.Topic(ctx, b.ds.Topic)
	if err != nil {
		return nil, err
	}
	ends, err := b.kafka.Offsets(ctx, b.ds.Topic)
	if err != nil {
		return nil, err
	}
	perPartition := make([][][]plainRow, info.Partitions)
	longest := 0
	for id := range info.Partitions {
		part := kafkalog.Partition{Topic: info.Name, TopicID: info.ID, ID: id}
		r := kafkalog.NewReader(b.kafka, part, 0, kafkalog.ReaderConfig{Until: ends[id].LastStable, MaxRecords: b.batch()})
		for {
			batch, err := r.Read(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			var rows []plainRow
			if err == nil {
				rows, err = bareRows(batch)
			}
			if err != nil {
				return nil, errors.Join(err, r.Close())
			}
			perPartition[id] = append(perPartition[id], rows)
		}
		longest = max(longest, len(perPartition[id]))
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	var out [][]plainRow
	for i := range longest { // in turn, as consumers see them
		for _, p := range perPartition {
			if i < len(p) {
				out = append(out, p[i])
			}
		}
	}
	return out, nil
}

func bareRows(b *kafkalog.Batch) ([]plainRow, error) {
	defer b.Release()
	n := make(newest, len(b.Records))
	for i := range b.Records {
		rec := &b.Records[i]
		var s state
		for _, h := range rec.Headers {
			s.read(h.Key, h.Value)
		}
		s.value = rec.Value
		n.add(rec.Key, s)
	}
	return n.rows()
}

// read takes what a header says.
func (s *state) read(name string, value []byte) {
	switch name {
	case "ce_sequence":
		s.version = number(value)
	case "ce_type":
		s.deleted = string(value) == schemas.TypeDelete
	}
}

func number(text []byte) (n int64) {
	for _, c := range text {
		n = n*10 + int64(c-'0')
	}
	return n
}

func (b *rig) batch() int { return cmp.Or(b.cfg.Worker.MaxBatch, kafkalog.DefaultMaxRecords) }
