package testenv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestRedisKeepsWhatItsOptionsPromise(t *testing.T) {
	s := testenv.StartRedis(t, testenv.RedisOptions{Appendfsync: "always"})
	c := s.Client(t)
	ctx := t.Context()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	if got, err := c.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Errorf("after Restart: got %q, %v; want v", got, err)
	}
	s.RestartEmpty(t)
	if err := c.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("after RestartEmpty: got %v, want redis.Nil", err)
	}
	s.Kill(t)
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a killed server answers")
	}
}

func TestStoppedServerDoesNotAnswerUntilCont(t *testing.T) {
	s := testenv.StartRedis(t, testenv.RedisOptions{})
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, ReadTimeout: 200 * time.Millisecond})
	t.Cleanup(func() { c.Close() })
	s.Stop(t)
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a stopped server answers")
	}
	s.Cont(t)
	testenv.Eventually(t, 30*time.Second, func(ctx context.Context) error { return c.Ping(ctx).Err() })
}

func TestNamespaceIsEmptiedAfterwards(t *testing.T) {
	s := testenv.Redis(t)
	c := s.Client(t)
	var ns string
	t.Run("user", func(t *testing.T) {
		ns = s.Namespace(t)
		for i := range 50 {
			if err := c.Set(t.Context(), fmt.Sprintf("f:%s:%d", ns, i), 1, time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
	keys, err := c.Keys(t.Context(), "*"+ns+"*").Result()
	if err != nil || len(keys) != 0 {
		t.Errorf("keys left: %d, %v; want none", len(keys), err)
	}
}

func TestMySQLSurvivesKill(t *testing.T) {
	s := testenv.StartMySQL(t, testenv.MySQLOptions{})
	db := s.Open(t, s.NewDatabase(t))
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE a (x INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO a VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	var got int
	testenv.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		return db.QueryRowContext(ctx, "SELECT x FROM a").Scan(&got)
	})
	if got != 7 {
		t.Errorf("got %d, want 7", got)
	}
	s.RestartEmpty(t)
	testenv.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		if err := db.QueryRowContext(ctx, "SELECT x FROM a").Scan(&got); err == nil || !strings.Contains(err.Error(), "1049") {
			return fmt.Errorf("after RestartEmpty: got %w, want unknown database", err)
		}
		return nil
	})
}

func TestMySQLDatabasesAreApartAndDropped(t *testing.T) {
	s := testenv.MySQL(t)
	names := map[string]bool{}
	for range 2 {
		t.Run("user", func(t *testing.T) {
			db := s.Open(t, s.NewDatabase(t))
			var name string
			if err := db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&name); err != nil {
				t.Fatal(err)
			}
			names[name] = true
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE a (x INT)"); err != nil {
				t.Errorf("a table of the same name: %v", err)
			}
		})
	}
	if len(names) != 2 {
		t.Fatalf("got %d databases, want 2", len(names))
	}
	db := s.Open(t, s.DSN(""))
	for name := range names {
		var n int
		q := "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?"
		if err := db.QueryRowContext(t.Context(), q, name).Scan(&n); err != nil || n != 0 {
			t.Errorf("database %s is left: %d, %v", name, n, err)
		}
	}
}

func TestKafkaKeepsRecordsOverKill(t *testing.T) {
	s := testenv.StartKafka(t, testenv.KafkaOptions{Properties: map[string]string{"log.flush.interval.messages": "1"}})
	topic := s.CreateTopic(t, 2, "cleanup.policy=compact")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := s.Client(t, kgo.DefaultProduceTopic(topic))
	if err := p.ProduceSync(ctx, &kgo.Record{Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	c := s.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var got []byte
	for got == nil {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("no record after Restart: %v", f.Err())
		}
		f.EachRecord(func(r *kgo.Record) { got = r.Value })
	}
	if string(got) != "v" {
		t.Errorf("got %q, want v", got)
	}
}

func TestKafkaTopicsAreApart(t *testing.T) {
	s := testenv.Kafka(t)
	a, b := s.CreateTopic(t, 1), s.CreateTopic(t, 1)
	if a == b {
		t.Errorf("one name for two topics: %s", a)
	}
	s.DeleteTopic(t, a)
	s.CreateTopicNamed(t, a, 3)
}

func TestSharedServersCannotBeBroken(t *testing.T) {
	s := testenv.Redis(t)
	r := &recorder{TB: t}
	func() {
		defer func() { recover() }() // the recorder panics instead of ending this test
		s.Kill(r)
	}()
	if !r.failed {
		t.Error("Kill of a shared server was allowed")
	}
}

// recorder is a test whose Fatal can be watched.
type recorder struct {
	testing.TB
	failed, skipped bool
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(...any) {
	r.skipped = true
	panic("skip")
}

func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	panic("fatal")
}

// A child must not outlive its parent, even one that had no chance to clean up.
func TestChildrenDieWithTheTestProcess(t *testing.T) {
	if os.Getenv("TESTENV_ORPHAN") != "" {
		s := testenv.StartRedis(t, testenv.RedisOptions{})
		fmt.Printf("addr=%s\n", s.Addr)
		<-make(chan int) // until killed
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildrenDieWithTheTestProcess$", "-test.v")
	tmp, err := os.MkdirTemp("", "orphan") // not t.TempDir: its name is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	cmd.Env = append(os.Environ(), "TESTENV_ORPHAN=1", "TMPDIR="+tmp)
	var out lines
	cmd.Stdout, cmd.Stderr = &out, &out
	out.found = make(chan string, 1)
	p := testenv.StartProcess(t, "parent", cmd)
	var addr string
	select {
	case addr = <-out.found:
	case <-p.Done():
		t.Fatalf("the parent ended: %v", p.Err())
	case <-time.After(time.Minute):
		t.Fatal("the parent started no server")
	}
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	t.Cleanup(func() { c.Close() })
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatalf("the server does not run: %v", err)
	}
	p.Kill(t)
	testenv.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		if c.Ping(ctx).Err() == nil {
			return errors.New("the server outlived its parent")
		}
		return nil
	})
}

// lines looks for the address that the parent prints. Only exec's copying goroutine writes.
type lines struct {
	buf   bytes.Buffer
	found chan string
	done  bool
}

func (l *lines) Write(p []byte) (int, error) {
	l.buf.Write(p)
	if _, after, ok := strings.Cut(l.buf.String(), "addr="); ok && !l.done {
		if addr, _, whole := strings.Cut(after, "\n"); whole {
			l.done = true
			l.found <- addr
		}
	}
	return len(p), nil
}
