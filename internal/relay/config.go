package relay

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Config.
const (
	DefaultSource = "//freshet/relay"
	DefaultLease  = 10 * time.Second
)

// The points of Config.Failpoint.
const (
	// PointAfterRead is between reading rows and publishing them, PointAfterAck between the acknowledgement of a batch by Kafka
	// and the deletion of its rows, PointBeforeCommit in the transaction that deletes them.
	PointAfterRead    = "after-read"
	PointAfterAck     = "after-ack"
	PointBeforeCommit = "before-commit"
)

// Config of a Relay. Kafka, Datasets and a database in MySQL are required.
type Config struct {
	// MySQL is the source database. Writers, ReadConns and Idle are the relay's to set.
	MySQL mysql.Config
	// Kafka is the cluster that has the datasets' topics.
	Kafka *kafkalog.Client
	// Datasets whose rows are published. Rows of others stay in the outbox.
	Datasets *schemas.Datasets
	// Owner identifies this relay in the lease; "" means host, pid and a random part.
	Owner string
	// Source is the CloudEvents source of the events; "" means DefaultSource.
	Source string
	// Compression of the batches.
	Compression recordbatch.Compression
	// Lease is how long a relay that says nothing stays the active one; 0 means DefaultLease. It is renewed three times in it.
	Lease time.Duration
	// Tracer records a span for each row whose trace is recorded; nil: none.
	Tracer trace.Tracer
	// Logger reports changes of state; nil discards.
	Logger *slog.Logger
	// Published, if not nil, is called for each row that Kafka has acknowledged, also again for one that is published again. It
	// must not block.
	Published func(Published)
	// Failpoint, if not nil, is called at the points of the path of a batch, for tests.
	Failpoint func(point string)
}

// Published is a row of the outbox that Kafka has acknowledged.
type Published struct {
	Dataset, Key string
	Version      int64
	// Source and Offset are its place in Kafka.
	Source string
	Offset int64
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Kafka == nil:
		return c, errors.New("check Kafka: none given")
	case c.Datasets == nil:
		return c, errors.New("check Datasets: none given; load them with schemas.LoadDatasets")
	case c.Lease < 0:
		return c, fmt.Errorf("check Lease %s: must not be negative; 0 means %s", c.Lease, DefaultLease)
	}
	if err := c.Datasets.CheckBuilt(); err != nil {
		return c, fmt.Errorf("check Datasets: %w", err)
	}
	c.Source = cmp.Or(c.Source, DefaultSource)
	c.Lease = cmp.Or(c.Lease, DefaultLease)
	if c.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "relay" // the rest is unique
		}
		c.Owner = fmt.Sprintf("%s-%d-%s", mysql.Cut(host, 100), os.Getpid(), rand.Text()[:6])
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Failpoint == nil {
		c.Failpoint = func(string) {}
	}
	c.MySQL.Writers, c.MySQL.ReadConns, c.MySQL.Idle, c.MySQL.Logger = 1, 4, 0, c.Logger
	return c, nil
}
