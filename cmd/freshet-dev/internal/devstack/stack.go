// Package devstack runs Kafka, MySQL and Redis inside this process, so that `freshet-dev` and quick tests need nothing
// installed. The servers are stand-ins on loopback ports: Kafka keeps its topics and group offsets in a directory and has
// them again after a restart, MySQL and Redis live in memory only. They speak the real protocols, and none of them is
// proof of how the real server behaves under concurrency or loss.
//
// A fresh, empty MySQL and Redis beside a Kafka that remembers is a situation that Freshet handles by itself: a replica
// without a position reads each topic from its start, and missing lanes are recreated.
package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Config of a Stack. The zero value works.
type Config struct {
	// Dir keeps Kafka's data. "" means a temporary directory that Close removes.
	Dir string
	// KafkaPort, MySQLPort and RedisPort are fixed loopback ports; 0 means any free one.
	KafkaPort, MySQLPort, RedisPort int
	// LockWait is how long a statement of MySQL waits for another transaction; 0 means DefaultLockWait. Afterwards it
	// fails with error 1205, which Freshet tries again.
	LockWait time.Duration
	// Logger hears what the servers have to say, at level debug; nil discards.
	Logger *slog.Logger
}

// DefaultLockWait is the longest wait for another write transaction of the embedded MySQL.
const DefaultLockWait = 10 * time.Second

// Stack is the running servers. Its fields are set by Start and do not change.
type Stack struct {
	// Kafka is the broker's address, host:port.
	Kafka string
	// MySQL is the database.
	MySQL *MySQL
	// Redis is the server's address, host:port.
	Redis string

	kafka   *kfake.Cluster
	redis   *miniredis.Miniredis
	tempDir string
	once    sync.Once
	err     error
}

// Start runs the three servers. ctx bounds the start only; Close ends them.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start dev stack: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.LockWait == 0 {
		cfg.LockWait = DefaultLockWait
	}
	s := &Stack{}
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("start dev stack: %w", err), s.Close())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, cfg Config) error {
	dir := cfg.Dir
	if dir == "" {
		temp, err := os.MkdirTemp("", "freshet-dev-")
		if err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		dir, s.tempDir = temp, temp
	}
	if err := s.startKafka(ctx, cfg, filepath.Join(dir, "kafka")); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	if err := s.startRedis(cfg); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	m, err := startMySQL(ctx, cfg)
	if err != nil {
		return fmt.Errorf("mysql: %w", err)
	}
	s.MySQL = m
	return nil
}

func (s *Stack) startKafka(ctx context.Context, cfg Config, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	port := cfg.KafkaPort
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("freshet-dev"),
		kfake.DataDir(dir),
		kfake.WithLogger(kafkaLog{cfg.Logger.With("component", "dev_kafka")}),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			var lc net.ListenConfig
			return lc.Listen(ctx, network, loopback(port))
		}),
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return err
	}
	s.kafka = c
	addrs := c.ListenAddrs()
	if len(addrs) != 1 {
		return fmt.Errorf("want one broker, have %d", len(addrs))
	}
	s.Kafka = addrs[0]
	return nil
}

func (s *Stack) startRedis(cfg Config) error {
	r := miniredis.NewMiniRedis()
	if err := r.StartAddr(loopback(cfg.RedisPort)); err != nil {
		return err
	}
	// Without it a TTL never runs out: leases and values would live permanently.
	r.ClockTTL(true)
	s.redis, s.Redis = r, r.Addr()
	return nil
}

// FlushRedis empties Redis, as a lost master without replica would: lanes, watermarks, values, everything.
func (s *Stack) FlushRedis() { s.redis.FlushAll() }

// Close ends the servers, waits for their connections' ends, and removes a temporary directory. It may be called again.
func (s *Stack) Close() error {
	s.once.Do(func() {
		var errs []error
		if s.MySQL != nil {
			errs = append(errs, s.MySQL.close())
		}
		if s.redis != nil {
			s.redis.Close()
		}
		if s.kafka != nil {
			s.kafka.Close()
		}
		if s.tempDir != "" {
			errs = append(errs, os.RemoveAll(s.tempDir))
		}
		if err := errors.Join(errs...); err != nil {
			s.err = fmt.Errorf("close dev stack: %w", err)
		}
	})
	return s.err
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// kafkaLog passes the broker's lines on at level debug: they are the fake's own affairs.
type kafkaLog struct{ log *slog.Logger }

// Logf is kfake's Logger.
func (k kafkaLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if level > kfake.LogLevelWarn {
		return
	}
	k.log.Debug("broker says", "detail", fmt.Sprintf(format, args...))
}

var _ io.Closer = (*Stack)(nil)
