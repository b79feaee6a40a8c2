package connect

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// Consumer returns the configuration of a worker. closeAll closes the clients of Redis in it.
func Consumer(c config.Config, set *schemas.Datasets, log *slog.Logger) (cc consumer.Config, closeAll func(), err error) {
	k := consumer.Kafka{Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID}
	if k.GetTLS, err = kafkaTLS(c); err != nil {
		return cc, nil, err
	}
	if k.SASL, err = kafkaSASL(c); err != nil {
		return cc, nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	my, err := withMySQL(c, mysql.Config{})
	if err != nil {
		return cc, nil, err
	}
	hold, err := Hold(c)
	if err != nil {
		return cc, nil, err
	}
	rdb, err := Redis(c)
	if err != nil {
		return cc, nil, err
	}
	external, err := ForeignRedis(c)
	if err != nil {
		return cc, nil, errors.Join(err, rdb.Close())
	}
	closeAll = func() {
		_, _ = rdb.Close(), external.Close() // nothing is read any more
	}
	w, r := c.Worker, c.Retention
	return consumer.Config{
		Datasets: set, Namespace: c.Namespace, Lanes: c.Lanes, Group: c.Kafka.Group, Kafka: k,
		MySQL: consumer.MySQL{DSN: my.DSN, Credentials: my.Credentials, GetTLS: my.GetTLS, Cleartext: my.Cleartext, MaxConns: c.MySQL.MaxConns},
		Redis: rdb, ExternalRedis: external, ExternalAgain: w.ForeignAgain, ID: w.ID, FailFast: c.FailFast, Logger: log,
		Writers: w.Writers, MaxBatch: w.MaxBatch, MaxBatchBytes: w.MaxBatchBytes, FetchBudget: w.FetchBudget, SessionTimeout: w.SessionTimeout,
		Window: w.Window, KeepDisplaced: w.KeepDisplaced, Hold: hold, MaxKeyRate: w.MaxKeyRate, DeadTopics: w.DeadTopics,
		Samples: w.Samples, StaleAfter: w.StaleAfter,
		Retention: consumer.Retention{
			DeadLetters: retention(r.DeadLetters), Tombstones: retention(r.Tombstones), Audit: retention(r.Audit), Replays: retention(r.Replays),
		},
	}, closeAll, nil
}

// retention returns a retention in the consumer's terms: in the settings, 0 keeps rows permanently.
func retention(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
