package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

// sourceTable is the shop's own table. The embedded server has one database, so it is beside the replica's tables.
const sourceTable = `CREATE TABLE IF NOT EXISTS shop_record (
  dataset VARCHAR(64) NOT NULL, record_key VARCHAR(512) NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (dataset, record_key))`

const sqlChange = "INSERT INTO shop_record (dataset, record_key, version) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE version = VALUES(version)"

// source is the shop's own database. Each change of a record and its event are one transaction; a relay publishes the
// events.
type source struct {
	invalidation.Publisher // for invalidations, which no event carries

	db    *sql.DB
	kafka *kafkalog.Client
	box   *outbox.Outbox
	relay *relay.Relay
	acks  relay.Acks
	stop  context.CancelFunc
	ended chan error
}

// openSource makes the tables and starts the relay. The caller closes the source.
func openSource(ctx context.Context, stack *devstack.Stack, datasets *schemas.Datasets, p invalidation.Publisher, log *slog.Logger) (_ *source, err error) {
	s := &source{Publisher: p, ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	connector, err := stack.MySQL.Connector()
	if err != nil {
		return nil, err
	}
	s.db = sql.OpenDB(connector)
	for _, text := range append(outbox.DDL(), sourceTable) {
		if _, err := s.db.ExecContext(ctx, text); err != nil {
			return nil, fmt.Errorf("make the source's tables: %w", err)
		}
	}
	if s.box, err = outbox.New(outbox.Config{Datasets: datasets}); err != nil {
		return nil, err
	}
	if s.kafka, err = kafkalog.New(kafkalog.Config{Brokers: []string{stack.Kafka}, Logger: log}); err != nil {
		return nil, err
	}
	s.relay, err = relay.New(relay.Config{
		MySQL: mysql.Config{Connector: connector, PlainSession: true}, Kafka: s.kafka, Datasets: datasets, Source: "//shop/db", Logger: log,
		Published: s.acks.Published,
	})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() { s.ended <- s.relay.Run(running) }()
	return s, nil
}

// PublishAsync commits a change and its event. done is called when the relay has published it.
func (s *source) PublishAsync(ctx context.Context, ev schemas.Event, done func(schemas.Token, error)) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin change: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, sqlChange, ev.Dataset, ev.Key, ev.Version); err != nil {
		return fmt.Errorf("change record: %w", err)
	}
	if _, err := s.box.Enqueue(ctx, tx, ev); err != nil {
		return err
	}
	forget := s.acks.Expect(ev.Dataset, ev.Key, ev.Version, func(tok schemas.Token) { done(tok, nil) })
	if err := tx.Commit(); err != nil {
		if forget() {
			return nil
		}
		return fmt.Errorf("commit change: %w", err)
	}
	return nil
}

func (s *source) close() error {
	var errs []error
	if s.stop != nil {
		s.stop()
		errs = append(errs, <-s.ended)
	}
	if s.kafka != nil {
		errs = append(errs, s.kafka.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}
