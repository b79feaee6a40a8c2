package connect

import (
	"errors"
	"log/slog"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/schemas"
)

var errNoSource = errors.New("relay.dsn is not set; give FRESHET_RELAY__DSN, --relay-dsn-file or relay.dsn in the file: the database that has the table freshet_outbox")

// Source returns how the source database is reached.
func Source(c config.Config, log *slog.Logger) (mysql.Config, error) {
	return withPlace(c, mysql.Config{Logger: log}, place{"relay", c.Relay.DSN, c.Relay.DSNFile, c.Relay.TLS, c.Relay.PasswordCommand, c.Relay.Cleartext, errNoSource})
}

// Relay returns the configuration of a relay. The caller closes its client of Kafka.
func Relay(c config.Config, set *schemas.Datasets, kafka *kafkalog.Client, log *slog.Logger) (relay.Config, error) {
	source, err := Source(c, log)
	if err != nil {
		return relay.Config{}, err
	}
	codec, err := recordbatch.ParseCompression(c.Producer.Compression)
	if err != nil {
		return relay.Config{}, config.UsageError{Err: err}
	}
	return relay.Config{
		MySQL: source, Kafka: kafka, Datasets: set, Owner: c.Relay.ID, Source: c.Relay.Source, Compression: codec, Lease: c.Relay.Lease, Logger: log,
	}, nil
}
