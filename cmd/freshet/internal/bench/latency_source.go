package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

// changer makes changes whose path is timed.
type changer interface {
	// change makes one, calls began when its path begins, and returns when it is in Kafka.
	change(ctx context.Context, ev schemas.Event, began func(time.Time)) (schemas.Token, error)
	close() error
}

func (b *rig) changer(ctx context.Context, viaOutbox bool) (changer, error) {
	if viaOutbox {
		return b.openCommitter(ctx)
	}
	p, err := b.producer()
	return directly{p}, err
}

// directly publishes.
type directly struct{ producer *producer.Producer }

func (d directly) change(ctx context.Context, ev schemas.Event, began func(time.Time)) (schemas.Token, error) {
	began(time.Now())
	return d.producer.Publish(ctx, ev)
}

func (d directly) close() error { return d.producer.Close() }

// committers is the number of transactions at a time in the source database.
const committers = 16

// committer changes a row of the source database and enqueues its event in one transaction; a relay publishes it.
type committer struct {
	db    *sql.DB
	made  bool // the tables are ours to drop
	kafka *kafkalog.Client
	box   *outbox.Outbox
	acks  relay.Acks
	stop  context.CancelFunc
	ended chan error
}

// openCommitter makes an outbox in the database of relay.dsn, which must have none, and starts a relay.
func (b *rig) openCommitter(ctx context.Context) (*committer, error) {
	mc, err := connect.Source(b.cfg, b.log)
	if err != nil {
		return nil, err
	}
	c := &committer{ended: make(chan error, 1)}
	if c.db, err = mc.OpenDB(); err != nil {
		return nil, err
	}
	c.db.SetMaxOpenConns(committers)
	c.db.SetMaxIdleConns(committers)
	if err := c.open(ctx, b); err != nil {
		return nil, errors.Join(err, c.close()) //nolint:contextcheck // a benchmark that was interrupted cleans up, too
	}
	return c, nil
}

func (c *committer) open(ctx context.Context, b *rig) (err error) {
	if c.made, err = makeOutbox(ctx, c.db, "VARCHAR(64)"); err != nil {
		return err
	}
	if c.box, err = outbox.New(outbox.Config{Datasets: b.set}); err != nil {
		return err
	}
	if c.kafka, err = connect.Kafka(b.cfg, b.log); err != nil {
		return err
	}
	rc, err := connect.Relay(b.cfg, b.set, c.kafka, b.log)
	if err != nil {
		return err
	}
	rc.Published = c.acks.Published
	r, err := relay.New(rc)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go func() { c.ended <- r.Run(running) }()
	return nil
}

func (c *committer) change(ctx context.Context, ev schemas.Event, began func(time.Time)) (schemas.Token, error) {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return schemas.Token{}, fmt.Errorf("begin change: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, "INSERT INTO freshet_outbox_bench (id, n) VALUES (?, 1) ON DUPLICATE KEY UPDATE n = n + 1", ev.Key); err != nil {
		return schemas.Token{}, fmt.Errorf("change record: %w", err)
	}
	ev.ID, ev.Time, ev.Source = "", time.Time{}, "" // the relay's to set
	if _, err := c.box.Enqueue(ctx, tx, ev); err != nil {
		return schemas.Token{}, err
	}
	published := make(chan schemas.Token, 1)
	c.acks.Expect(ev.Dataset, ev.Key, ev.Version, func(tok schemas.Token) { published <- tok })
	began(time.Now())
	if err := tx.Commit(); err != nil {
		return schemas.Token{}, fmt.Errorf("commit change: %w", err)
	}
	select {
	case tok := <-published:
		return tok, nil
	case <-ctx.Done():
		return schemas.Token{}, context.Cause(ctx)
	}
}

// close ends the relay and drops the tables.
func (c *committer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if c.stop != nil {
		c.stop()
		errs = append(errs, <-c.ended)
	}
	if c.kafka != nil {
		errs = append(errs, c.kafka.Close())
	}
	if c.made {
		errs = append(errs, dropOutbox(ctx, c.db))
	}
	return errors.Join(append(errs, c.db.Close())...)
}
