package bench

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/schemas"
)

const (
	// fillRows is the number of rows of one INSERT that fills the outbox.
	fillRows = 1000
	// benchRecords is how many records the writers change.
	benchRecords = 10_000
	// relayPoll is how often the relay's counters are looked at.
	relayPoll = 5 * time.Millisecond
)

// RelayConfig is the size of the benchmark Relay. All fields are required.
type RelayConfig struct {
	Rows       int           // rows of the backlog that is drained
	Size       int           // approximate bytes of an event's data
	Partitions int           // partitions of the topic
	Writers    int           // connections that change records
	Duration   time.Duration // of each turn of the writers
	Turns      int           // turns of the writers with and without the relay
}

// RelayResult is the result of Relay.
type RelayResult struct {
	Rows  int     `json:"rows"`
	Size  int     `json:"bytes_of_data"`
	Drain float64 `json:"drained_rows_per_second"`
	// Alone and Beside are the writers' transactions per second without and with the relay.
	Writers int    `json:"writers"`
	Alone   spread `json:"writers_alone_per_second"`
	Beside  spread `json:"writers_beside_relay_per_second"`
}

// Print prints the result as text.
func (r *RelayResult) Print(w io.Writer) {
	fmt.Fprintf(w, "drain     %d rows of %d bytes: %.0f rows/s\n", r.Rows, r.Size, r.Drain)
	fmt.Fprintf(w, "writers   %d connections, one update and one outbox row in a transaction\n", r.Writers)
	fmt.Fprintf(w, "  without relay  %s transactions/s\n", r.Alone.text("%.0f"))
	fmt.Fprintf(w, "  with relay     %s transactions/s, %.2f of that\n", r.Beside.text("%.0f"), r.Beside.Median/max(r.Alone.Median, 1))
}

// outboxRig is a source database with an outbox, and a topic.
type outboxRig struct {
	cfg   config.Config
	log   *slog.Logger
	set   *schemas.Datasets
	name  string
	db    *sql.DB
	kafka *kafkalog.Client
	f     RelayConfig
	made  bool // the tables are ours to drop
}

// Relay measures how fast a relay drains an outbox, and what it costs the writers of the same database. It makes the outbox's
// tables in the database of relay.dsn and drops them.
func Relay(ctx context.Context, c config.Config, f RelayConfig, log *slog.Logger) (*RelayResult, error) {
	b, err := openOutboxRig(ctx, c, f, log)
	if err != nil {
		return nil, err
	}
	res, err := b.measure(ctx)
	return res, errors.Join(err, b.Close())
}

func (b *outboxRig) measure(ctx context.Context) (_ *RelayResult, err error) {
	f := b.f
	res := &RelayResult{Rows: f.Rows, Size: f.Size, Writers: f.Writers}
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	if res.Drain, err = b.drain(ctx); err != nil {
		return nil, err
	}
	var alone, beside []float64
	for range f.Turns {
		rate, err := b.write(ctx)
		if err != nil {
			return nil, err
		}
		alone = append(alone, rate)
		if _, err := b.drain(ctx); err != nil { // what the turn left
			return nil, err
		}
		err = b.withRelay(ctx, func(*relay.Relay) error {
			rate, err = b.write(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		beside = append(beside, rate)
		if _, err := b.drain(ctx); err != nil {
			return nil, err
		}
	}
	res.Alone, res.Beside = spreadOf(alone), spreadOf(beside)
	return res, nil
}

func openOutboxRig(ctx context.Context, c config.Config, f RelayConfig, log *slog.Logger) (*outboxRig, error) {
	var id [4]byte
	_, _ = rand.Read(id[:])
	name := "bench_" + hex.EncodeToString(id[:])
	set, err := declare(name, false)
	if err != nil {
		return nil, err
	}
	source, err := connect.Source(c, log)
	if err != nil {
		return nil, err
	}
	b := &outboxRig{cfg: c, log: log, set: set, name: name, f: f}
	if b.db, err = source.OpenDB(); err != nil {
		return nil, err
	}
	b.db.SetMaxIdleConns(f.Writers)
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *outboxRig) open(ctx context.Context) error {
	var err error
	if b.made, err = makeOutbox(ctx, b.db, "BIGINT"); err != nil {
		return err
	}
	if err := b.insertMany(ctx, "freshet_outbox_bench (id, n)", benchRecords, func(i int) string { return fmt.Sprintf("(%d,0)", i) }); err != nil {
		return err
	}
	if b.kafka, err = connect.Kafka(b.cfg, b.log); err != nil {
		return err
	}
	return b.kafka.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: "freshet." + b.name, Partitions: b.f.Partitions}})
}

// insertMany inserts rows, many with each statement.
func (b *outboxRig) insertMany(ctx context.Context, into string, rows int, row func(i int) string) error {
	for from := 0; from < rows; from += fillRows {
		if _, err := b.db.ExecContext(ctx, insertText(into, from, min(from+fillRows, rows), row)); err != nil {
			return fmt.Errorf("insert rows: %w", err)
		}
	}
	return nil
}

// insertText is the statement that inserts the rows of a range.
func insertText(into string, from, to int, row func(i int) string) string {
	var text strings.Builder
	text.WriteString("INSERT INTO " + into + " VALUES ")
	for i := from; i < to; i++ {
		if i > from {
			text.WriteByte(',')
		}
		text.WriteString(row(i))
	}
	return text.String()
}

// outboxRow is a row of SQL; the data of the benchmark have no quotes.
func (b *outboxRig) outboxRow(i int) string {
	id := recordID(i % benchRecords)
	const rest = 40 // bytes of the data beside the body
	return "('" + b.name + "','" + id + "','upsert','{\"id\":\"" + id + "\",\"body\":\"" + strings.Repeat("b", max(0, b.f.Size-rest)) + "\"}')"
}

const intoOutbox = "freshet_outbox (dataset, record_key, op, data)"

func (b *outboxRig) fill(ctx context.Context) error {
	return b.insertMany(ctx, intoOutbox, b.f.Rows, b.outboxRow)
}

// withRelay runs fn beside a relay.
func (b *outboxRig) withRelay(ctx context.Context, fn func(*relay.Relay) error) error {
	rc, err := connect.Relay(b.cfg, b.set, b.kafka, b.log)
	if err != nil {
		return err
	}
	r, err := relay.New(rc)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	g.Go(func() error { return r.Run(ctx) })
	g.Go(func() error {
		defer cancel()
		return fn(r)
	})
	return g.Wait()
}

// drain returns how many rows a second a relay publishes and deletes until the outbox is empty, from its first row on.
func (b *outboxRig) drain(ctx context.Context) (float64, error) {
	var rate float64
	err := b.withRelay(ctx, func(r *relay.Relay) error {
		var left int64
		if err := b.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM freshet_outbox WHERE dataset <> ''").Scan(&left); err != nil {
			return fmt.Errorf("count rows: %w", err)
		}
		tick := time.NewTicker(relayPoll)
		defer tick.Stop()
		var began time.Time
		for s := r.Stats(); int64(s.Deleted) < left; s = r.Stats() {
			if began.IsZero() && s.Active {
				began = time.Now()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		rate = float64(left) / time.Since(began).Seconds()
		return nil
	})
	return rate, err
}

// write lets the writers change records for a while and returns their transactions per second.
func (b *outboxRig) write(ctx context.Context) (float64, error) {
	until, cancel := context.WithTimeout(ctx, b.f.Duration)
	defer cancel()
	var n atomic.Int64
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for w := range b.f.Writers {
		g.Go(func() error {
			for i := w; until.Err() == nil; i += b.f.Writers {
				if err := b.change(ctx, i%benchRecords); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := g.Wait()
	return float64(n.Load()) / time.Since(began).Seconds(), err
}

// change is a service's transaction.
func (b *outboxRig) change(ctx context.Context, i int) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE freshet_outbox_bench SET n = n + 1 WHERE id = %d", i)); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if _, err := tx.ExecContext(ctx, insertText(intoOutbox, i, i+1, b.outboxRow)); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Close removes what the benchmark made.
func (b *outboxRig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if b.made {
		errs = append(errs, dropOutbox(ctx, b.db))
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.DeleteTopics(ctx, []string{"freshet." + b.name}), b.kafka.Close())
	}
	return errors.Join(append(errs, b.db.Close())...)
}
