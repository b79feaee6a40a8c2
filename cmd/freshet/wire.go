package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// This file fits settings to the parts.

const defaultWriters = kafkalog.DefaultWriters

func loadDatasets(c config.Config) (*schemas.Datasets, error) {
	set, err := schemas.LoadDatasets(os.DirFS(c.Datasets))
	if err != nil {
		return nil, fmt.Errorf("datasets in %s: %w", c.Datasets, err)
	}
	return set, nil
}

// declared gives the dataset of a name that a user gave.
func declared(set *schemas.Datasets, name string) (*schemas.Dataset, error) {
	d, ok := set.Get(name)
	if !ok {
		var names []string
		for _, d := range set.All() {
			names = append(names, d.Name)
		}
		return nil, usageError{fmt.Errorf("dataset %q is not declared; there are %s", name, strings.Join(names, ", "))}
	}
	return d, nil
}

func openKafka(c config.Config, log *slog.Logger) (*kafkalog.Client, error) {
	return openKafkaFor(c, 0, log)
}

// openKafkaFor keeps connections between questions for a while, 0: not at all.
func openKafkaFor(c config.Config, keepIdle time.Duration, log *slog.Logger) (*kafkalog.Client, error) {
	t, err := kafkaTLS(c)
	if err != nil {
		return nil, err
	}
	m, err := kafkaSASL(c)
	if err != nil {
		return nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	return kafkalog.New(kafkalog.Config{Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID, GetTLS: t, SASL: m, KeepIdle: keepIdle, Logger: log})
}

// errNoDSN says how to name the database.
var errNoDSN = errors.New("mysql.dsn is not set; give FRESHET_MYSQL__DSN, --mysql-dsn-file or mysql.dsn in the file, such as user:password@tcp(127.0.0.1:3306)/shop")

// openMigrations opens the database for migrations, whose lock reads times.
func openMigrations(c config.Config) (*sql.DB, error) {
	return openTables(c, func(dc *mysql.Config) { dc.ParseTime = true })
}

// openDDL opens the database for changes of tables.
func openDDL(c config.Config) (*sql.DB, error) {
	return openTables(c, func(*mysql.Config) {})
}

// openTables opens the database without a read timeout: a change of a table may take hours.
func openTables(c config.Config, edit func(*mysql.Config)) (*sql.DB, error) {
	rc, err := withMySQL(c, replica.Config{})
	if err != nil {
		return nil, err
	}
	dc, err := rc.DriverConfig()
	if err != nil {
		return nil, usageError{err}
	}
	dc.ReadTimeout = 0
	edit(dc)
	connector, err := replica.NewConnector(dc)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return sql.OpenDB(connector), nil
}

func openReplica(ctx context.Context, c config.Config, log *slog.Logger) (*replica.MySQL, error) {
	writers := c.Worker.Writers
	if writers == 0 {
		writers = defaultWriters
	}
	rc, err := withMySQL(c, replica.Config{
		Writers: writers, ReadConns: max(0, c.MySQL.MaxConns-writers), SessionTimeout: c.Worker.SessionTimeout, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return replica.Open(ctx, rc)
}

// prepareReplica makes sure that the database belongs to the configured namespace and group, and looks at its tables.
func prepareReplica(ctx context.Context, c config.Config, db *replica.MySQL, set *schemas.Datasets) ([]*replica.DatasetError, error) {
	if _, err := db.Bind(ctx, c.Namespace, c.Kafka.Group); err != nil {
		return nil, fmt.Errorf("check database: %w", err)
	}
	broken, err := db.Prepare(ctx, set.All())
	if err != nil {
		return nil, fmt.Errorf("check replica tables: %w", err)
	}
	return broken, nil
}

// hold is how long an invalidation restrains fills: not at all where every load reads the primary.
func hold(c config.Config) (time.Duration, error) {
	switch c.Loads {
	case "any":
		return c.Worker.Hold, nil
	case "primary":
		return -1, nil
	}
	return 0, usageError{fmt.Errorf("loads is %q; write any, or primary if every load of every node reads the primary", c.Loads)}
}

// publisher is a producer with what the publish command needs beside it.
type publisher struct {
	*producer.Producer
	datasets *schemas.Datasets
}

func openProducer(c config.Config, log *slog.Logger) (*publisher, error) {
	set, err := loadDatasets(c)
	if err != nil {
		return nil, err
	}
	t, err := kafkaTLS(c)
	if err != nil {
		return nil, err
	}
	m, err := kafkaSASL(c)
	if err != nil {
		return nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	source := c.Producer.Source
	if source == "" {
		source = "//freshet/publish"
	}
	p, err := producer.New(producer.Config{
		Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID, Datasets: set, Source: source, GetTLS: t, SASL: m,
		Compression: c.Producer.Compression, Linger: c.Producer.Linger, DeliveryTimeout: c.Producer.DeliveryTimeout, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return &publisher{Producer: p, datasets: set}, nil
}

func (p *publisher) names() string {
	var names []string
	for _, d := range p.datasets.All() {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}

// workerID names this process uniquely.
func workerID(given string) string {
	if given != "" {
		return given
	}
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(b[:]))
}
