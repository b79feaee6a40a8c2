package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions of a Redis server. The zero value keeps everything in memory.
type RedisOptions struct {
	// Appendfsync turns the append-only file on: "always", "everysec" or "no".
	Appendfsync string
	// Args are further arguments of redis-server, such as "--maxmemory-policy", "allkeys-lru".
	Args []string
}

// RedisServer is a Redis that answers.
type RedisServer struct {
	instance
	// Addr is host:port.
	Addr string
	// Socket is the path of the unix socket, "" for a given server without one.
	Socket string
	// Version is what the server says of itself.
	Version string
}

// Client returns a client that is closed when the test ends. It uses the unix socket where there is one.
func (s *RedisServer) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := s.client()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("testenv: close Redis client: %v", err)
		}
	})
	return c
}

// Follow makes the server a replica of master and waits until it has everything.
func (s *RedisServer) Follow(t testing.TB, master *RedisServer) {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatalf("testenv: split address: %v", err)
	}
	rdb := s.client()
	defer rdb.Close()
	if err := rdb.Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
		t.Fatalf("testenv: make a replica: %v", err)
	}
	s.InSync(t)
}

// SetUser makes a user or changes it, by rules of ACL SETUSER. It is gone when the test ends.
func (s *RedisServer) SetUser(t testing.TB, name string, rules ...string) {
	t.Helper()
	c := s.client()
	defer c.Close()
	args := []any{"ACL", "SETUSER", name, "reset", "on"}
	for _, r := range rules {
		args = append(args, r)
	}
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("testenv: make Redis user: %v", err)
	}
	c.Do(t.Context(), "ACL", "SAVE") // a server that was given may have no file for them
	if s.private {
		return
	}
	t.Cleanup(func() {
		c := s.client()
		defer c.Close()
		if err := c.Do(context.WithoutCancel(t.Context()), "ACL", "DELUSER", name).Err(); err != nil {
			t.Logf("testenv: remove Redis user: %v", err)
		}
	})
}

// InSync waits until a node that came back has everything that its master has.
func (s *RedisServer) InSync(t testing.TB) {
	t.Helper()
	rdb := s.client()
	defer rdb.Close()
	Eventually(t, bootLimit, func(ctx context.Context) error {
		info, err := rdb.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New("not in sync yet")
		}
		return err
	})
}

func (s *RedisServer) client() *redis.Client {
	if s.Socket != "" {
		return redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket})
	}
	return redis.NewClient(&redis.Options{Addr: s.Addr})
}

// Namespace returns a name that no other test has. Keys whose names contain it are removed when the test ends.
func (s *RedisServer) Namespace(t testing.TB) string {
	t.Helper()
	ns := unique("t")
	t.Cleanup(func() {
		if s.private {
			return // gone with the server, which may be down by now
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c := s.client()
		defer c.Close()
		if err := removeKeys(ctx, c, ns); err != nil {
			t.Logf("testenv: remove keys of %s: %v", ns, err)
		}
	})
	return ns
}

func removeKeys(ctx context.Context, c *redis.Client, ns string) error {
	var cursor uint64
	for {
		keys, next, err := c.Scan(ctx, cursor, "*"+ns+"*", 1000).Result()
		if err != nil {
			return fmt.Errorf("scan keys: %w", err)
		}
		if len(keys) > 0 {
			if err := c.Unlink(ctx, keys...).Err(); err != nil {
				return fmt.Errorf("unlink keys: %w", err)
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func givenRedis(ctx context.Context, addr string) (*RedisServer, error) {
	s := &RedisServer{instance: instance{name: "Redis"}, Addr: addr}
	if filepath.IsAbs(addr) {
		s.Addr, s.Socket = "", addr
	}
	c := s.client()
	defer c.Close()
	v, err := redisVersion(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("ask the Redis of %s: %w", RedisVar, err)
	}
	s.Version = v
	if s.Socket != "" {
		// The socket's server may listen on TCP as well; proxies need that.
		if port, err := c.ConfigGet(ctx, "port").Result(); err == nil && port["port"] != "0" && port["port"] != "" {
			s.Addr = net.JoinHostPort("127.0.0.1", port["port"])
		}
	}
	return s, nil
}

func startRedis(ctx context.Context, l *launcher, o RedisOptions) (*RedisServer, error) {
	bin, err := program("install redis-server or set "+RedisVar, "redis-server", "valkey-server")
	if err != nil {
		return nil, err
	}
	return startTried(ctx, l, func(ctx context.Context, dir string, port int) (*RedisServer, error) {
		s := &RedisServer{
			Addr:   net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			Socket: filepath.Join(dir, "redis.sock"),
		}
		s.instance = instance{
			name: "Redis", dir: dir,
			boot: func(ctx context.Context) (*Process, error) { return s.bootOwn(ctx, l, bin, port, o) },
			wipe: func(context.Context) error { return emptyDir(filepath.Join(dir, "data")) },
		}
		return s, s.start(ctx)
	})
}

func (s *RedisServer) bootOwn(ctx context.Context, l *launcher, bin string, port int, o RedisOptions) (*Process, error) {
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	users := filepath.Join(s.dir, "users.acl") // outlives a restart with or without data
	if f, err := os.OpenFile(users, os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("make the file of users: %w", err)
	} else if err := f.Close(); err != nil {
		return nil, fmt.Errorf("make the file of users: %w", err)
	}
	args := []string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--unixsocket", s.Socket, "--unixsocketperm", "700",
		"--dir", data, "--aclfile", users, "--save", "", "--daemonize", "no", "--maxmemory", "1gb", "--maxmemory-policy", "noeviction",
	}
	if o.Appendfsync != "" {
		args = append(args, "--appendonly", "yes", "--appendfsync", o.Appendfsync)
	}
	p, err := l.start("redis-server", exec.Command(bin, append(args, o.Args...)...), filepath.Join(s.dir, "redis.log"))
	if err != nil {
		return nil, err
	}
	tcp := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer tcp.Close()
	err = p.ready(ctx, func(ctx context.Context) error {
		if err := dial(ctx, s.Addr); err != nil {
			return err
		}
		got, err := tcp.ConfigGet(ctx, "dir").Result()
		if err != nil {
			return fmt.Errorf("ask for its directory: %w", err)
		}
		if got["dir"] != data {
			return errForeign
		}
		s.Version, err = redisVersion(ctx, tcp)
		return err
	})
	if err != nil {
		return nil, kill(p, err)
	}
	return p, nil
}

func redisVersion(ctx context.Context, c *redis.Client) (string, error) {
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return "", fmt.Errorf("ask for its version: %w", err)
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			return v, nil
		}
	}
	return "unknown", nil
}
