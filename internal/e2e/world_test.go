package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// itemSchema is the record that most tests here move: n repeats the version, so that a row shows which event made it.
const itemSchema = `{
  "type": "object", "required": ["id", "n", "body"],
  "properties": {
    "id": {"type": "string", "minLength": 1, "maxLength": 64},
    "n": {"type": "integer"},
    "body": {"type": "string", "maxLength": 1000},
    "note": {"type": "string", "maxLength": 1000000}
  }
}`

const itemDataset = `dataset: items
topic: %s
schema: items.json
key: [id]
replica:
  table: items
cache:
  key: "item:{id}"
`

// item is an item as nodes cache it.
type item struct {
	ID   string `json:"id"`
	N    int64  `json:"n"`
	Body string `json:"body"`
}

// world is one set of servers, a database, a namespace and a dataset folder.
type world struct {
	t        *testing.T
	kafka    *testenv.KafkaServer
	redis    *testenv.RedisServer
	dsn      string
	db       *sql.DB
	replica  *replica.DB
	ns       string
	dir      string
	datasets *schemas.Datasets
	workers  int
	admin    *testenv.Process // see api
	apiURL   string
	patience time.Duration // for what takes its time at full size; settleLimit unless set
	env      []string      // further settings of commands
	ownUsers bool          // each child has a database user of its own

	accounts bool // commands have the accounts that freshet grants describes
	rebuilds bool // workers may rebuild tables
}

// servers are those of a world; the shared ones where nil.
type servers struct {
	kafka *testenv.KafkaServer
	redis *testenv.RedisServer
	mysql *testenv.MySQLServer
	// cleanup is the policy of the datasets' topics; "" is what freshet migrate datasets chooses.
	cleanup string
	// rebuilds lets workers rebuild tables.
	rebuilds bool
}

func newWorld(t *testing.T, redisServer *testenv.RedisServer, files map[string]string) *world {
	t.Helper()
	return newWorldOn(t, servers{redis: redisServer}, files)
}

// newWorldOn makes Freshet's tables and the datasets' tables with the real commands. files are the dataset folder.
func newWorldOn(t *testing.T, s servers, files map[string]string) *world {
	t.Helper()
	if s.kafka == nil {
		s.kafka = testenv.Kafka(t)
	}
	if s.redis == nil {
		s.redis = testenv.Redis(t)
	}
	if s.mysql == nil {
		s.mysql = testenv.MySQL(t)
	}
	my := s.mysql
	w := &world{t: t, kafka: s.kafka, redis: s.redis, dsn: my.NewDatabase(t), ns: s.redis.Namespace(t), dir: t.TempDir(), rebuilds: s.rebuilds}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := schemas.LoadDatasets(os.DirFS(w.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.datasets = set
	w.db = my.Open(t, w.dsn)
	t.Cleanup(func() { w.kafka.DeleteTopic(t, schemas.InvalidationTopic(w.ns)) })
	t.Cleanup(w.dropAccounts)
	w.grant()
	w.mustRun("migrate", "up")
	w.mustRun("migrate", "datasets", "--partitions", "4", "--cleanup", cmp.Or(s.cleanup, "compact"))
	w.replica, err = replica.Open(t.Context(), replica.Config{MySQL: mysql.Config{DSN: w.dsn}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.replica.Close() })
	if broken, err := w.replica.Prepare(t.Context(), set.All()); err != nil || len(broken) > 0 {
		t.Fatal(err, broken)
	}
	return w
}

func (w *world) environ(command string) []string {
	url := "redis://" + w.redis.Addr + "/0"
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { // these are no settings
		return strings.HasPrefix(kv, "FRESHET_FAULTS") || strings.HasPrefix(kv, "FRESHET_BACKFILL")
	})
	env = append(env,
		"FRESHET_DATASETS="+w.dir, "FRESHET_NAMESPACE="+w.ns, "FRESHET_KAFKA__BROKERS="+strings.Join(w.kafka.Brokers, ","),
		"FRESHET_KAFKA__GROUP="+w.ns, "FRESHET_MYSQL__DSN="+w.dsn, "FRESHET_REDIS__URL="+url,
		"FRESHET_WORKER__SESSION_TIMEOUT=3s", "FRESHET_WORKER__LISTEN=127.0.0.1:0",
	)
	env = append(env, w.login(command)...)
	return append(env, w.env...)
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, freshet(w.t), args...)
	cmd.Env = w.environ(args[0])
	return cmd
}

// run runs a freshet command to its end.
func (w *world) run(stdin string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeout(w.t.Context(), max(2*settleLimit, w.patience))
	defer cancel()
	cmd := w.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	makes := w.accounts && len(args) > 1 && args[0] == "migrate" && args[1] == "datasets"
	if makes {
		w.grant() // to make topics
	}
	err := cmd.Run()
	if makes {
		w.grant() // on the tables that were made
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("run freshet %v: %v", args, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func (w *world) mustRun(args ...string) string {
	w.t.Helper()
	out, errOut, code := w.run("", args...)
	if code != 0 {
		w.t.Fatalf("freshet %v: exit code %d\n%s%s", args, code, out, errOut)
	}
	return out
}

// startWorker starts a worker process.
func (w *world) startWorker() *testenv.Process {
	w.t.Helper()
	w.workers++
	cmd := w.command(context.Background(), "worker", "--worker-id", fmt.Sprintf("w%d", w.workers))
	return testenv.StartProcess(w.t, fmt.Sprintf("worker %d", w.workers), cmd)
}

func (w *world) producer() *producer.Producer {
	w.t.Helper()
	p, err := producer.New(producer.Config{Brokers: w.kafka.Brokers, Datasets: w.datasets, Source: "//e2e/test"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	return p
}

// node is a caching process in miniature.
type node struct {
	*invalidation.Node
	items *invalidation.Cache[item]
	rdb   *redis.Client
}

func (w *world) node(id string) *node {
	w.t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: w.redis.Addr})
	n, err := invalidation.Join(w.t.Context(), rdb, invalidation.Config{Namespace: w.ns, Datasets: w.datasets, ID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := invalidation.NewCache(n, invalidation.CacheConfig[item]{Dataset: "items", Load: w.load})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		n.Close()
		rdb.Close()
	})
	return &node{Node: n, items: c, rdb: rdb}
}

// seen waits until a node has taken in everything that the token names.
func (w *world) seen(n *invalidation.Node, token schemas.Token) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), settleLimit)
	defer cancel()
	if err := n.WaitFor(ctx, token); err != nil {
		w.t.Fatalf("the node has not seen %v: %v; it is at %+v", token.Offsets(), err, n.Stats())
	}
}

// load reads the replica, which is its own primary here.
func (w *world) load(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[item], error) {
	d, _ := w.datasets.Get("items")
	row, err := w.replica.Rows.Get(ctx, d, key)
	if err != nil {
		return invalidation.Loaded[item]{}, err
	}
	out := invalidation.Loaded[item]{Version: row.Version, Found: row.Found && !row.Deleted, From: invalidation.Primary}
	if out.Found {
		p := row.Properties(d)
		n, _ := p["n"].(int64)
		body, _ := p["body"].(string)
		out.Value = item{ID: key, N: n, Body: body}
	}
	return out, nil
}

// watchVersions makes the database note every version that a row of table ever had, in order.
func (w *world) watchVersions(table, key string) {
	w.t.Helper()
	for _, stmt := range []string{
		"CREATE TABLE history (at BIGINT AUTO_INCREMENT PRIMARY KEY, k VARBINARY(512) NOT NULL, v BIGINT NOT NULL, KEY (k, at))",
		fmt.Sprintf("CREATE TRIGGER after_insert AFTER INSERT ON %s FOR EACH ROW INSERT INTO history (k, v) VALUES (NEW.%s, NEW._version)", table, key),
		fmt.Sprintf("CREATE TRIGGER after_update AFTER UPDATE ON %s FOR EACH ROW INSERT INTO history (k, v) SELECT NEW.%s, NEW._version FROM DUAL WHERE NEW._version <> OLD._version", table, key),
	} {
		if _, err := w.db.ExecContext(w.t.Context(), stmt); err != nil {
			w.t.Fatal(err)
		}
	}
}

// versionsWentBack counts neighbours in a row's history whose version does not grow, and the history's length.
func (w *world) versionsWentBack() (back, all int) {
	w.t.Helper()
	err := w.db.QueryRowContext(w.t.Context(), `SELECT COALESCE(SUM(v <= before_v), 0), COUNT(*) FROM (
		SELECT v, LAG(v) OVER (PARTITION BY k ORDER BY at) AS before_v FROM history) h`).Scan(&back, &all)
	if err != nil {
		w.t.Fatal(err)
	}
	return back, all
}

const settleLimit = 90 * time.Second
