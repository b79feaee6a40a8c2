// Package testenv gives tests the real servers: Apache Kafka, MariaDB and Redis as child processes on loopback, or those
// that FRESHET_TEST_KAFKA, FRESHET_TEST_MYSQL and FRESHET_TEST_REDIS name.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// and its tests ask for what they need:
//
//	rs := testenv.Redis(t);  ns := rs.Namespace(t)        // a namespace of this test alone
//	ms := testenv.MySQL(t);  dsn := ms.NewDatabase(t)     // an empty database, dropped afterwards
//	ks := testenv.Kafka(t);  topic := ks.CreateTopic(t, 4) // a topic of this test alone
//
// These servers are shared: by all tests of the process, and under `make test` by all packages. So no FLUSHALL, no
// CONFIG SET, no SHUTDOWN. A test that breaks servers starts its own with StartRedis, StartMySQL, StartKafka, which have
// Kill, Stop (SIGSTOP), Cont, Restart and RestartEmpty.
//
// No child outlives the test process, however that ends: each is killed by the kernel when its parent dies.
package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The variables that name servers to use instead of starting some.
const (
	// KafkaVar holds bootstrap addresses: host:port,host:port.
	KafkaVar = "FRESHET_TEST_KAFKA"
	// KafkaLoginVar holds the addresses of that Kafka's listener with logins; without it, nothing is tested that needs one.
	KafkaLoginVar = "FRESHET_TEST_KAFKA_LOGIN"
	// MySQLVar holds a DSN of the driver without a database: user:password@tcp(host:port)/. The user may create
	// databases.
	MySQLVar = "FRESHET_TEST_MYSQL"
	// RedisVar holds host:port or the absolute path of a unix socket.
	RedisVar = "FRESHET_TEST_REDIS"
	// RequireVar decides whether a missing server is a failure ("1") or a skip ("0"). Without it CI decides: set is a failure.
	RequireVar = "FRESHET_TEST_REQUIRE"
	// ServersVar set to "docker" or "native" takes the choice from Serve, which asks Docker Compose if an engine runs.
	ServersVar = "FRESHET_TEST_SERVERS"
)

// ErrMissing: the software of a server is not on this machine.
var ErrMissing = errors.New("server software is missing")

// bootLimit is the longest that any server may take to answer. It is for hangs only: a busy machine needs a tenth of it.
const bootLimit = 2 * time.Minute

// shared is the one state that outlives a test: servers are too slow to start for each.
var shared environment //nolint:gochecknoglobals // the servers of this test process; Main owns it

// environment holds the servers of one process.
type environment struct {
	launcher *launcher // nil unless Main runs
	redis    slot[RedisServer, RedisOptions]
	mysql    slot[MySQLServer, MySQLOptions]
	kafka    slot[KafkaServer, KafkaOptions]
	chromium chromium
}

// slot starts a server once, with options O, and remembers how that ended.
type slot[T, O any] struct {
	once   sync.Once
	server *T
	err    error
}

// get returns the server that the variable names, or else one that it starts.
func (s *slot[T, O]) get(
	t testing.TB, what, variable string, given func(context.Context, string) (*T, error),
	start func(context.Context, *launcher, O) (*T, error), o O,
) *T {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*bootLimit)
		defer cancel()
		if named := os.Getenv(variable); named != "" {
			s.server, s.err = given(ctx, named)
			return
		}
		s.server, s.err = start(ctx, shared.launcherFor(t), o)
	})
	give(t, what, s.err)
	return s.server
}

// Main runs the tests of a package, stops what they started, fails when a goroutine is left, and exits. Options are
// goleak's, for goroutines that a dependency cannot end.
func Main(m *testing.M, opts ...goleak.Option) {
	if code, child := kfakeChild(); child {
		os.Exit(code)
	}
	os.Exit(shared.run(m, opts))
}

func (e *environment) run(m *testing.M, opts []goleak.Option) int {
	e.launcher = newLauncher()
	code := m.Run()
	left := e.launcher.close()
	for _, name := range left {
		fmt.Fprintf(os.Stderr, "testenv: %s was still running and could not be stopped\n", name)
		code = 1
	}
	if code == 0 {
		// A Redis client whose server was killed dials once a second, and notices only then that it was closed meanwhile.
		opts = append(opts, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
		if err := goleak.Find(opts...); err != nil {
			fmt.Fprintf(os.Stderr, "testenv: goroutines are left after the tests: %v\n", err)
			code = 1
		}
	}
	return code
}

// Redis returns the shared Redis.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	s := shared.redis.get(t, "Redis", RedisVar, givenRedis, startRedis, RedisOptions{})
	s.attachLog(t)
	return s
}

// MySQL returns the shared MariaDB (or MySQL, when one is named).
func MySQL(t testing.TB) *MySQLServer {
	t.Helper()
	s := shared.mysql.get(t, "MariaDB", MySQLVar, givenMySQL, startMySQL, MySQLOptions{})
	s.attachLog(t)
	return s
}

// Kafka returns the shared Apache Kafka.
func Kafka(t testing.TB) *KafkaServer {
	t.Helper()
	s := shared.kafka.get(t, "Kafka", KafkaVar, givenKafka, startKafka, sharedKafka())
	s.attachLog(t)
	return s
}

// StartRedis starts a Redis for this test alone.
func StartRedis(t testing.TB, o RedisOptions) *RedisServer {
	t.Helper()
	s, err := startRedis(t.Context(), shared.launcherFor(t), o)
	give(t, "Redis", err)
	s.adopt(t)
	return s
}

// StartMySQL starts a MariaDB for this test alone.
func StartMySQL(t testing.TB, o MySQLOptions) *MySQLServer {
	t.Helper()
	s, err := startMySQL(t.Context(), shared.launcherFor(t), o)
	give(t, "MariaDB", err)
	s.adopt(t)
	return s
}

// StartKafka starts an Apache Kafka for this test alone.
func StartKafka(t testing.TB, o KafkaOptions) *KafkaServer {
	t.Helper()
	s, err := startKafka(t.Context(), shared.launcherFor(t), o)
	give(t, "Kafka", err)
	s.adopt(t)
	return s
}

func (e *environment) launcherFor(t testing.TB) *launcher {
	t.Helper()
	if e.launcher == nil {
		t.Fatal("testenv: TestMain of this package must call testenv.Main(m)")
	}
	return e.launcher
}

// Dir makes a directory that is there until the tests of the process have ended.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := serverDir()
	if err != nil {
		t.Fatal(err)
	}
	shared.launcherFor(t).remove(dir)
	return dir
}

// give ends the test when there is no server: a skip with a reason where software is missing, else a failure.
func give(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if errors.Is(err, ErrMissing) && !required() {
		Skip(t, fmt.Sprintf("no %s: %v", what, err))
	}
	t.Fatalf("testenv: %s: %v", what, err)
}

func required() bool {
	if v := os.Getenv(RequireVar); v != "" {
		return v != "0"
	}
	return os.Getenv("CI") != ""
}

// Eventually asks cond until it returns nil, and fails the test with its last error after the given time.
func Eventually(t testing.TB, within time.Duration, cond func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := until(ctx, cond); err != nil {
		t.Fatalf("not within %s: %v", within, err)
	}
}

// awaitLimit is for hangs only.
const awaitLimit = 2 * time.Minute

// Await returns what the channel delivers, the zero value once it is closed. When nothing comes for two minutes it fails
// the test and prints all goroutines, so that a test that hangs ends by itself and shows where. A cleanup may call it.
func Await[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	var v T
	select {
	case v = <-c:
	case <-limit.C:
		stacks := make([]byte, 1<<20)
		t.Fatalf("nothing came within %s; goroutines:\n%s", awaitLimit, stacks[:runtime.Stack(stacks, true)])
	}
	return v
}

// until asks every few milliseconds; its error holds the last answer.
func until(ctx context.Context, ask func(context.Context) error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var last error // an answer that the deadline itself cut off says less than the one before
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && last != nil {
			err = last
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-tick.C:
		}
	}
}

// serverDir makes a directory whose socket paths stay below the limit of 108 bytes.
func serverDir() (string, error) {
	parent := os.TempDir()
	if len(parent) > 60 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "frs")
	if err != nil {
		return "", fmt.Errorf("make server directory: %w", err)
	}
	// Servers report their directories without symbolic links, and are asked for them as proof.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", fmt.Errorf("resolve server directory: %w", err)
	}
	return dir, nil
}

// tail returns the end of a log file.
func tail(path string, lines int) string {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
