package consumer

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Config.
const (
	DefaultNamespace      = "default"
	DefaultClientID       = kafkalog.DefaultClientID
	DefaultWriters        = group.DefaultWriters
	DefaultMaxBatch       = kafkalog.DefaultMaxRecords
	DefaultMaxBatchBytes  = kafkalog.DefaultMaxBatchBytes
	DefaultFetchBudget    = group.DefaultBudget
	DefaultSessionTimeout = group.DefaultSessionTimeout
	DefaultWindow         = worker.DefaultWindow
	DefaultKeepDisplaced  = worker.DefaultKeepDisplaced
	DefaultHold           = worker.DefaultHold
	DefaultMaxKeyRate     = worker.DefaultMaxKeyRate
	DefaultSamples        = consistency.DefaultRecords
	DefaultStaleAfter     = consistency.DefaultAlarm
)

// Defaults of a Retention.
const (
	DefaultDeadLetters = 30 * 24 * time.Hour
	DefaultTombstones  = 90 * 24 * time.Hour
	DefaultAudit       = 365 * 24 * time.Hour
	DefaultReplays     = 90 * 24 * time.Hour
)

// ErrConfig is returned, wrapped, when a field of a Config is missing, out of range, or contradicts another.
var ErrConfig = worker.ErrConfig

// Config of a Worker. Datasets, Kafka.Brokers and MySQL.DSN are required, and Redis as soon as one dataset has a cache section; the
// zero value of every other field works.
type Config struct {
	// Datasets are what the worker carries; every one of them.
	Datasets *schemas.Datasets
	// Namespace of the lanes, the one that nodes join: 1 to 32 of a-z, 0-9, dot, underscore and hyphen; "" means DefaultNamespace.
	Namespace string
	// Lanes is the namespace's number of lanes, fixed once it exists; 0 means 1.
	Lanes int
	// Group is the Kafka consumer group. Workers of one group share the partitions, and one group writes one replica database and
	// one namespace. "" means DefaultGroup(Namespace).
	Group string

	// Kafka has the datasets' topics, MySQL the replica.
	Kafka Kafka
	MySQL MySQL
	// Redis has the lanes and the shared entries: a *redis.Client, of a single Redis or behind Sentinel, or a *redis.ClusterClient.
	// The caller closes it after Close.
	Redis redis.UniversalClient
	// ExternalRedis has the datasets' external keys; nil means Redis. The caller closes it after Close.
	ExternalRedis redis.UniversalClient
	// ExternalAgain deletes external keys once more that long after the first time; 0 means not at all.
	ExternalAgain time.Duration

	// ID names this worker; it must be unique. "" means the host, the process and a random part.
	ID string
	// Version is the release of the program around the worker, and Address where its metrics and readiness are served. Both are
	// optional, and shown where workers are listed, such as by freshet nodes.
	Version, Address string
	// NotReady, if not nil, returns what else keeps the process from its work, one sentence each. Worker.NotReady includes it.
	NotReady func() []string
	// Degraded, if not nil, returns what else needs attention while the process works. Worker.Degraded includes it.
	Degraded func() []string
	// FailFast ends Run with the error when a server is away or refuses at start, instead of waiting for it.
	FailFast bool
	// Logger; nil discards.
	Logger *slog.Logger
	// TracerProvider records the stages of events whose traces are sampled (traceparent): fetch, apply and emit; nil: none.
	TracerProvider trace.TracerProvider

	// Writers is how many transactions run at a time; 0 means DefaultWriters.
	Writers int
	// MaxBatch and MaxBatchBytes bound the events of a transaction; 0 means DefaultMaxBatch and DefaultMaxBatchBytes.
	MaxBatch, MaxBatchBytes int
	// FetchBudget bounds the bytes that are fetched and not yet applied; 0 means DefaultFetchBudget.
	FetchBudget int
	// SessionTimeout is how long the partitions of a dead worker wait for another one; 0 means DefaultSessionTimeout.
	SessionTimeout time.Duration
	// Window is how far back a new lane is filled again from Kafka; 0 means DefaultWindow. At most KeepDisplaced.
	Window time.Duration
	// KeepDisplaced is how long the previous names of records are kept for repairs of lanes; 0 means DefaultKeepDisplaced.
	KeepDisplaced time.Duration
	// Hold is how long after an invalidation loads that may lag are refused; 0 means DefaultHold. Negative: never, for a namespace
	// whose every load reads the primary.
	Hold time.Duration
	// MaxKeyRate is how many keys a second go into one lane before a common tag is stamped or the lane flushed instead; 0 means
	// DefaultMaxKeyRate. Negative: no bound.
	MaxKeyRate int
	// DeadTopics copies each dead letter to the topic of its dataset with .dead appended, which must exist.
	DeadTopics bool

	// Samples is how many records a second have their cached copies compared with the replica, at most 100; 0 means DefaultSamples.
	// Negative: none.
	Samples int
	// StaleAfter is when a copy that is older than the replica is an alarm; 0 means DefaultStaleAfter. It must be above MaxStaleness
	// of every node.
	StaleAfter time.Duration
	// Retention is how long rows that have no further use are kept.
	Retention Retention
}

// SASL is how a client authenticates to the brokers: Mechanism is plain, scram-sha-256, scram-sha-512 or oauthbearer (Password is the token), with User and Password, or
// with Credentials, a function that returns both for each authentication, so that a replaced password is used. It is the type of
// producer.Config.SASL.
type SASL = kafkalog.SASL

// Kafka is how the brokers are reached. Brokers is required.
type Kafka struct {
	// Brokers are host:port addresses to start from; the others are learned.
	Brokers []string
	// ClientID names this program to the brokers; "" means DefaultClientID.
	ClientID string
	// TLS, if not nil, encrypts every connection. An empty ServerName means the broker's host.
	TLS *tls.Config
	// GetTLS, if not nil, takes the place of TLS and is called for each new connection, so that replaced certificates and
	// authorities are used.
	GetTLS func() *tls.Config
	// SASL authenticates every connection; the zero value does not.
	SASL SASL
}

// MySQL is how the replica's database is reached, MySQL or MariaDB. DSN is required.
type MySQL struct {
	// DSN is user:password@tcp(host:port)/database.
	DSN string
	// Credentials, if not nil, returns the user and the password of each new connection, in place of the DSN's.
	Credentials func(ctx context.Context) (user, password string, err error)
	// Cleartext sends the password as it is where the server asks for that, as servers of clouds do for tokens. It needs TLS or GetTLS.
	Cleartext bool
	// TLS encrypts the connections; nil leaves that to the DSN. An empty ServerName means the server's host.
	TLS *tls.Config
	// GetTLS, if not nil, takes the place of TLS and is called for each new connection, so that replaced certificates and
	// authorities are used.
	GetTLS func() *tls.Config
	// MaxConns bounds the connections, at least Writers + 3; 0 means Writers + 4. Replays have up to 8 of their own.
	MaxConns int
}

// Retention is how long rows are kept once they have no further use. 0 means the default of each; negative keeps them permanently.
type Retention struct {
	// DeadLetters is for dead letters that were superseded or discarded, and for redriven ones whose record is newer by now; 0 means
	// DefaultDeadLetters.
	DeadLetters time.Duration
	// Tombstones is for rows of deleted records. It must be longer than an event may be late: an event older than the deletion
	// brings the row back once it is removed. 0 means DefaultTombstones.
	Tombstones time.Duration
	// Audit is for lines of the audit log; 0 means DefaultAudit.
	Audit time.Duration
	// Replays is for replays that have ended; 0 means DefaultReplays.
	Replays time.Duration
}

// DefaultGroup returns the consumer group of a namespace, so that two deployments that have a namespace each have a group each.
func DefaultGroup(namespace string) string {
	const group = "freshet"
	if namespace == "" || namespace == DefaultNamespace {
		return group
	}
	return group + "-" + namespace
}

// complete fills in what others derive from, and refuses what cannot work, before a server is asked.
func (c Config) complete() (Config, error) {
	c.Namespace = cmp.Or(c.Namespace, DefaultNamespace)
	c.Group = cmp.Or(c.Group, DefaultGroup(c.Namespace))
	c.ID = cmp.Or(c.ID, newID())
	if c.ExternalRedis == nil {
		c.ExternalRedis = c.Redis
	}
	if c.NotReady == nil {
		c.NotReady = func() []string { return nil }
	}
	if c.Degraded == nil {
		c.Degraded = func() []string { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("namespace", c.Namespace, "worker", c.ID)
	if c.Datasets == nil || c.Datasets.Len() == 0 {
		return c, fmt.Errorf("%w: Datasets is missing; load them with schemas.LoadDatasets", ErrConfig)
	}
	var errs []error
	if c.Datasets.Cached() && c.Redis == nil {
		errs = append(errs, fmt.Errorf("%w: Redis is missing, and a dataset has a cache section; give a client", ErrConfig))
	}
	if err := lane.CheckNamespace(c.Namespace); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	if c.MySQL.DSN == "" {
		errs = append(errs, fmt.Errorf("%w: MySQL.DSN is missing; give user:password@tcp(host:3306)/database", ErrConfig))
	} else if _, err := c.database(0, 0).DriverConfig(); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MySQL.MaxConns", int64(c.MySQL.MaxConns)},
		{"ExternalAgain", int64(c.ExternalAgain)},
		{"Writers", int64(c.Writers)},
		{"MaxBatch", int64(c.MaxBatch)},
		{"MaxBatchBytes", int64(c.MaxBatchBytes)},
		{"FetchBudget", int64(c.FetchBudget)},
		{"SessionTimeout", int64(c.SessionTimeout)},
		{"Window", int64(c.Window)},
		{"KeepDisplaced", int64(c.KeepDisplaced)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%w: %s is negative; give a positive value, or 0 for the default", ErrConfig, f.name))
		}
	}
	return c, errors.Join(append(errs, c.worker().Check())...)
}

// worker returns the configuration of the worker, as far as it needs no server.
func (c Config) worker() worker.Config {
	return worker.Config{
		Group: c.Group, Owner: c.ID, Datasets: c.Datasets, BindTo: c.Namespace, DeadTopics: c.DeadTopics, Window: c.Window,
		KeepDisplaced: c.KeepDisplaced, Hold: c.Hold, MaxKeyRate: c.MaxKeyRate, Logger: c.Logger, Tracer: tracecontext.Tracer(c.TracerProvider),
		Consumer: group.Config{
			SessionTimeout: c.SessionTimeout, Writers: c.Writers, MaxRecords: c.MaxBatch, MaxBatchBytes: c.MaxBatchBytes, Budget: c.FetchBudget,
		},
	}
}

// sampler returns the configuration of the sampler, as far as it needs no server.
func (c Config) sampler() consistency.Config {
	return consistency.Config{Datasets: c.Datasets, Records: c.Samples, Alarm: c.StaleAfter, Logger: c.Logger}
}

// database returns how the database is reached with so many connections for transactions and for everything else.
func (c Config) database(writers, reads int) mysql.Config {
	return mysql.Config{
		DSN: c.MySQL.DSN, Credentials: c.MySQL.Credentials, TLS: c.MySQL.TLS, GetTLS: c.MySQL.GetTLS, Cleartext: c.MySQL.Cleartext, Writers: writers, ReadConns: reads, Logger: c.Logger,
	}
}

func (r Retention) replica() replica.Retention {
	keep := func(d, unset time.Duration) time.Duration { return max(cmp.Or(d, unset), 0) } // of the replica's, 0 is permanent
	return replica.Retention{
		DeadLetters: keep(r.DeadLetters, DefaultDeadLetters), Tombstones: keep(r.Tombstones, DefaultTombstones),
		Audit: keep(r.Audit, DefaultAudit), Replays: keep(r.Replays, DefaultReplays),
	}
}
