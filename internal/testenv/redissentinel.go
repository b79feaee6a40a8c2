package testenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	sentinels    = 3
	sentinelName = "lanes"
)

// RedisSentinel is a master, a replica and three Sentinels that watch them, for one test alone.
type RedisSentinel struct {
	// Master and Replica are what the servers began as.
	Master, Replica *RedisServer
	// Sentinels are the addresses of the Sentinels, Name what they call the master.
	Sentinels []string
	Name      string
}

// StartSentinel starts them and waits until the Sentinels know each other and the replica is in sync. A master that does
// not answer for a second is replaced.
func StartSentinel(t testing.TB, o RedisOptions) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{Name: sentinelName, Master: StartRedis(t, o)}
	host, port, err := net.SplitHostPort(s.Master.Addr)
	if err != nil {
		t.Fatalf("testenv: split address: %v", err)
	}
	o.Args = append([]string{"--replicaof", host + " " + port}, o.Args...)
	s.Replica = StartRedis(t, o)
	for range sentinels {
		one, err := startSentinel(t.Context(), shared.launcherFor(t), host, port)
		give(t, "Redis Sentinel", err)
		t.Cleanup(func() {
			if err := one.proc.kill(); err != nil {
				t.Errorf("testenv: %v", err)
			}
			one.proc.attachLog(t)
		})
		s.Sentinels = append(s.Sentinels, one.addr)
	}
	Eventually(t, bootLimit, s.settled)
	return s
}

// sentinel is one that answers.
type sentinel struct {
	addr string
	proc *Process
}

func startSentinel(ctx context.Context, l *launcher, host, port string) (*sentinel, error) {
	bin, err := program("install redis-server", "redis-server", "valkey-server")
	if err != nil {
		return nil, err
	}
	return startTried(ctx, l, func(ctx context.Context, dir string, own int) (*sentinel, error) {
		var id [20]byte
		rand.Read(id[:]) // never fails
		myid := hex.EncodeToString(id[:])
		conf := filepath.Join(dir, "sentinel.conf")
		text := strings.Join([]string{
			"bind 127.0.0.1", "port " + strconv.Itoa(own), "dir " + dir, "daemonize no", "sentinel myid " + myid,
			"sentinel monitor " + sentinelName + " " + host + " " + port + " 2",
			"sentinel down-after-milliseconds " + sentinelName + " 1000",
			"sentinel failover-timeout " + sentinelName + " 2000", "",
		}, "\n")
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write configuration: %w", err)
		}
		p, err := l.start("redis-sentinel", exec.Command(bin, conf, "--sentinel"), filepath.Join(dir, "sentinel.log"))
		if err != nil {
			return nil, err
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(own))
		rdb := redis.NewSentinelClient(&redis.Options{Addr: addr, MaxRetries: -1})
		defer rdb.Close()
		err = p.ready(ctx, func(ctx context.Context) error {
			if err := dial(ctx, addr); err != nil {
				return err
			}
			cmd := redis.NewStringCmd(ctx, "SENTINEL", "MYID")
			if err := rdb.Process(ctx, cmd); err != nil {
				return fmt.Errorf("ask for its id: %w", err)
			}
			if cmd.Val() != myid {
				return errForeign
			}
			return nil
		})
		if err != nil {
			return nil, kill(p, err)
		}
		return &sentinel{addr, p}, nil
	})
}

// settled reports what is still missing.
func (s *RedisSentinel) settled(ctx context.Context) error {
	for _, addr := range s.Sentinels {
		rdb := redis.NewSentinelClient(&redis.Options{Addr: addr})
		defer rdb.Close()
		m, err := rdb.Master(ctx, s.Name).Result()
		if err != nil {
			return fmt.Errorf("ask a Sentinel: %w", err)
		}
		if m["num-slaves"] != "1" || m["num-other-sentinels"] != strconv.Itoa(sentinels-1) || m["flags"] != "master" {
			return fmt.Errorf("a Sentinel sees %s replicas and %s others", m["num-slaves"], m["num-other-sentinels"])
		}
	}
	rdb := s.Replica.client()
	defer rdb.Close()
	info, err := rdb.Info(ctx, "replication").Result()
	if err != nil {
		return fmt.Errorf("ask the replica: %w", err)
	}
	if !strings.Contains(info, "master_link_status:up") {
		return errors.New("the replica is not in sync yet")
	}
	return nil
}

// Client returns a client that asks the Sentinels, closed when the test ends.
func (s *RedisSentinel) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Sentinels})
	t.Cleanup(func() {
		if err := rdb.Close(); err != nil {
			t.Errorf("testenv: close Sentinel client: %v", err)
		}
	})
	return rdb
}

// MasterAddr is the master's address as the Sentinels have agreed.
func (s *RedisSentinel) MasterAddr(ctx context.Context) (string, error) {
	rdb := redis.NewSentinelClient(&redis.Options{Addr: s.Sentinels[0]})
	defer rdb.Close()
	at, err := rdb.GetMasterAddrByName(ctx, s.Name).Result()
	if err != nil || len(at) != 2 {
		return "", fmt.Errorf("ask for the master: %w", err)
	}
	return net.JoinHostPort(at[0], at[1]), nil
}
