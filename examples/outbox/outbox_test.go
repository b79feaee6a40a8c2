package outbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// language is a program of this folder.
type language struct {
	name, program string
	// interpreter returns what runs the program, or reports what is missing.
	interpreter func(ctx context.Context) (path, missing string)
}

func languages() []language {
	return []language{
		{"php", "change_price.php", php},
		{"node", "change-price.js", node},
		{"python", "change_price.py", python},
	}
}

func succeeds(ctx context.Context, dir, name string, args ...string) bool {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd.Run() == nil
}

func php(ctx context.Context) (path, missing string) {
	path, err := exec.LookPath("php")
	if err != nil || !succeeds(ctx, "php", path, "-r", "exit(extension_loaded('pdo_mysql') ? 0 : 1);") {
		return "", "no php with the extension pdo_mysql (Debian: php-cli, php-mysql)"
	}
	return path, ""
}

func python(ctx context.Context) (path, missing string) {
	for _, path := range []string{"python3", "/usr/bin/python3"} { // Debian's own has Debian's modules
		if succeeds(ctx, "python", path, "-c", "import pymysql") {
			return path, ""
		}
	}
	return "", "no python3 with PyMySQL (Debian: python3-pymysql)"
}

// node takes the driver of the lock file.
func node(ctx context.Context) (path, missing string) {
	path, err := exec.LookPath("node")
	if err != nil {
		return "", "no node (Debian: nodejs)"
	}
	if err := npmCI(ctx); err != nil {
		return "", err.Error()
	}
	return path, ""
}

// npmCI installs what the lock file names, unless that is what was installed last.
func npmCI(ctx context.Context) error {
	lock, err := os.ReadFile("node/package-lock.json")
	if err != nil {
		return fmt.Errorf("read package-lock.json: %w", err)
	}
	note := filepath.Join("node", "node_modules", ".installed-from")
	if have, err := os.ReadFile(note); err == nil && bytes.Equal(have, lock) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = "node"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %s", err, out)
	}
	if err := os.WriteFile(note, lock, 0o600); err != nil {
		return fmt.Errorf("note what npm ci installed: %w", err)
	}
	return nil
}

// service is the database of a shop with an outbox, and a relay that publishes it.
type service struct {
	t        *testing.T
	db       *sql.DB
	dsn      *driver.Config
	events   *kgo.Client
	products *schemas.Dataset
}

func newService(t *testing.T) *service {
	t.Helper()
	my, ks := testenv.MySQL(t), testenv.Kafka(t)
	dsn := my.NewDatabase(t)
	cfg, err := driver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, db: my.Open(t, dsn), dsn: cfg}
	for _, stmt := range append(outbox.DDL(),
		"CREATE TABLE products (sku VARCHAR(64) NOT NULL PRIMARY KEY, title VARCHAR(300) NOT NULL, price DECIMAL(10,2) NOT NULL, stock INT NOT NULL) ENGINE = InnoDB",
		"INSERT INTO products VALUES ('lamp-1', 'Lämpchen', 10, 3)") {
		if _, err := s.db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	topic := ks.CreateTopic(t, 1)
	schema, err := os.ReadFile("../shop/datasets/products.json")
	if err != nil {
		t.Fatal(err)
	}
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"products.json": {Data: schema},
		"products.yaml": {Data: []byte("dataset: products\ntopic: " + topic + "\nschema: products.json\nkey: [sku]\nreplica: {table: products}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.products, _ = set.Get("products")
	s.relay(ks, dsn, set)
	s.events = ks.Client(t, kgo.ConsumeTopics(topic))
	return s
}

func (s *service) relay(ks *testenv.KafkaServer, dsn string, set *schemas.Datasets) {
	s.t.Helper()
	kafka, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers})
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := relay.New(relay.Config{MySQL: mysql.Config{DSN: dsn}, Kafka: kafka, Datasets: set})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := testenv.Await(s.t, done); err != nil {
			s.t.Errorf("relay: %v", err)
		}
		_ = kafka.Close()
	})
}

// environ is how a program finds the database.
func (s *service) environ() []string {
	env := append(os.Environ(), "DB_USER="+s.dsn.User, "DB_PASSWORD="+s.dsn.Passwd, "DB_NAME="+s.dsn.DBName)
	if s.dsn.Net == "unix" {
		return append(env, "DB_SOCKET="+s.dsn.Addr, "DB_DSN=mysql:unix_socket="+s.dsn.Addr+";charset=utf8mb4;dbname="+s.dsn.DBName)
	}
	host, port, err := net.SplitHostPort(s.dsn.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return append(env, "DB_HOST="+host, "DB_PORT="+port, "DB_DSN=mysql:host="+host+";port="+port+";charset=utf8mb4;dbname="+s.dsn.DBName)
}

// next returns the next event: the product and its version.
func (s *service) next() (product map[string]any, version int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	f := s.events.PollRecords(ctx, 1)
	if f.NumRecords() != 1 {
		s.t.Fatalf("no event: %v", f.Err())
	}
	rec := f.Records()[0]
	ev := schemas.Event{Dataset: "products", Key: string(rec.Key), Op: schemas.Upsert, Data: rec.Value}
	for _, h := range rec.Headers {
		if h.Key == "ce_sequence" {
			n, err := strconv.ParseInt(string(h.Value), 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			ev.Version = n
		}
	}
	if _, err := s.products.Check(&ev); err != nil {
		s.t.Errorf("the event %s does not follow the schema: %v", rec.Value, err)
	}
	if err := json.Unmarshal(rec.Value, &product); err != nil {
		s.t.Fatal(err)
	}
	return product, ev.Version
}

// Each program's committed change becomes an event that its dataset accepts, and what it rolls back becomes none.
func TestPriceChanges(t *testing.T) {
	if _, err := schemas.LoadDatasets(shop.Datasets()); err != nil {
		t.Fatal(err)
	}
	for _, l := range languages() {
		t.Run(l.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			path, missing := l.interpreter(ctx)
			if missing != "" {
				testenv.Skip(t, missing+"; make test installs it where it runs as root on Debian")
			}
			s := newService(t)
			change := func(price string) (string, error) {
				cmd := exec.CommandContext(ctx, path, l.program, "lamp-1", price)
				cmd.Dir, cmd.Env = l.name, s.environ()
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := change("12.50"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			product, first := s.next()
			if product["sku"] != "lamp-1" || product["title"] != "Lämpchen" || product["price"] != "12.50" || product["stock"] != 3.0 {
				t.Errorf("event: %v", product)
			}
			if out, err := change("-1"); err == nil || !strings.Contains(out, "a price is above 0") {
				t.Errorf("a price below 0: %v\n%s", err, out)
			}
			if out, err := change("14.00"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			product, second := s.next()
			if product["price"] != "14.00" || second <= first {
				t.Errorf("after a change that was rolled back: %v, version %d after %d", product, second, first)
			}
		})
	}
}
