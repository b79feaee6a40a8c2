// Package connect opens what the settings describe: clients of Kafka, MySQL and Redis, the producer and the emitter, with the
// passwords and certificates that may be replaced while the process runs.
package connect

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// Datasets reads the folder of declarations.
func Datasets(c config.Config) (*schemas.Datasets, error) {
	set, err := schemas.LoadDatasets(os.DirFS(c.Datasets))
	if err != nil {
		return nil, fmt.Errorf("datasets in %s: %w", c.Datasets, err)
	}
	return set, nil
}

// Dataset returns the dataset that a user named.
func Dataset(set *schemas.Datasets, name string) (*schemas.Dataset, error) {
	d, ok := set.Get(name)
	if !ok {
		var names []string
		for _, d := range set.All() {
			names = append(names, d.Name)
		}
		return nil, config.UsageError{Err: fmt.Errorf("dataset %q is not declared; there are %s", name, strings.Join(names, ", "))}
	}
	return d, nil
}

// Kafka returns a client that opens a connection for each request.
func Kafka(c config.Config, log *slog.Logger) (*kafkalog.Client, error) {
	return KafkaKeeping(c, 0, log)
}

// KafkaKeeping returns a client that keeps idle connections for a while; 0 keeps none.
func KafkaKeeping(c config.Config, keepIdle time.Duration, log *slog.Logger) (*kafkalog.Client, error) {
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

// errNoDSN is returned when no database is configured.
var errNoDSN = errors.New("mysql.dsn is not set; give FRESHET_MYSQL__DSN, --mysql-dsn-file or mysql.dsn in the file, such as user:password@tcp(127.0.0.1:3306)/shop")

// Migrations opens the database for migrations, whose lock reads times.
func Migrations(c config.Config) (*sql.DB, error) {
	return openTables(c, mysql.Config{NoReadTimeout: true, ParseTime: true})
}

// DDL opens the database for changes of tables.
func DDL(c config.Config) (*sql.DB, error) {
	return openTables(c, mysql.Config{NoReadTimeout: true})
}

// openTables opens the database without a read timeout: a change of a table may take hours.
func openTables(c config.Config, mc mysql.Config) (*sql.DB, error) {
	mc, err := withMySQL(c, mc)
	if err != nil {
		return nil, err
	}
	return mc.OpenDB()
}

// Replica opens the replica with its pools of connections.
func Replica(ctx context.Context, c config.Config, log *slog.Logger) (*replica.DB, error) {
	rc, err := ReplicaConfig(c, log)
	if err != nil {
		return nil, err
	}
	return replica.Open(ctx, rc)
}

// ReplicaConfig returns how Replica opens it, for those who wait for the database.
func ReplicaConfig(c config.Config, log *slog.Logger) (replica.Config, error) {
	writers := cmp.Or(c.Worker.Writers, group.DefaultWriters)
	mc, err := withMySQL(c, mysql.Config{Writers: writers, ReadConns: max(0, c.MySQL.MaxConns-writers), Logger: log})
	return replica.Config{MySQL: mc, SessionTimeout: c.Worker.SessionTimeout}, err
}

// Hold returns how long only loads from the primary may fill an entry after its invalidation; negative where every load does.
func Hold(c config.Config) (time.Duration, error) {
	switch c.Loads {
	case "any":
		return c.Worker.Hold, nil
	case "primary":
		return -1, nil
	}
	return 0, config.UsageError{Err: fmt.Errorf("loads is %q; write any, or primary if every load of every node reads the primary", c.Loads)}
}

// Producer opens a producer of these datasets.
func Producer(c config.Config, set *schemas.Datasets, log *slog.Logger) (*producer.Producer, error) {
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
	return producer.New(producer.Config{
		Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID, Datasets: set, Source: source, GetTLS: t, SASL: m,
		Compression: c.Producer.Compression, Linger: c.Producer.Linger, DeliveryTimeout: c.Producer.DeliveryTimeout, Logger: log,
	})
}

// ConsumerConfig returns the settings of the consumer group for benchmarks; a worker has them from Consumer.
func ConsumerConfig(c config.Config) group.Config {
	return group.Config{
		SessionTimeout: c.Worker.SessionTimeout, Writers: c.Worker.Writers, MaxRecords: c.Worker.MaxBatch,
		MaxBatchBytes: c.Worker.MaxBatchBytes, Budget: c.Worker.FetchBudget,
	}
}

// Emitter returns an emitter with a client of its own. It does not connect yet.
func Emitter(c config.Config, log *slog.Logger) (*invalidation.Emitter, error) {
	rdb, err := Redis(c)
	if err != nil {
		return nil, err
	}
	h, err := Hold(c)
	if err != nil {
		return nil, err
	}
	return invalidation.NewEmitter(rdb, invalidation.EmitterConfig{Namespace: c.Namespace, Lanes: c.Lanes, Hold: h, Logger: log})
}
