package legacy_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is for hangs only.
const patience = 60 * time.Second

// php returns the interpreter, or skips the test.
func php(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("php")
	if err != nil || exec.CommandContext(t.Context(), path, "-r", "exit(extension_loaded('pdo_mysql') && extension_loaded('redis') ? 0 : 1);").Run() != nil {
		testenv.Skip(t, "no php with the extensions pdo_mysql and redis (Debian: php-cli, php-mysql, php-redis); make test installs them where it runs as root on Debian")
	}
	return path
}

// shop is the page with its database, a relay and a worker.
type shop struct {
	t      *testing.T
	source *sql.DB
	url    string
	client *http.Client
}

func newShop(t *testing.T) *shop {
	t.Helper()
	path := php(t)
	ks, my, rs := testenv.Kafka(t), testenv.MySQL(t), testenv.StartRedis(t, testenv.RedisOptions{})
	sourceDSN, replicaDSN := my.NewDatabase(t), my.NewDatabase(t)
	s := &shop{t: t, source: my.Open(t, sourceDSN), client: &http.Client{Timeout: 10 * time.Second}}
	for _, stmt := range append(outbox.DDL(),
		"CREATE TABLE products (sku VARCHAR(64) NOT NULL PRIMARY KEY, title VARCHAR(300) NOT NULL, price DECIMAL(10,2) NOT NULL) ENGINE = InnoDB",
		"INSERT INTO products VALUES ('lamp-1', 'Lamp', 12.50)") {
		if _, err := s.source.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	datasets := onTopic(t, ks.CreateTopic(t, 2))
	s.relay(ks, sourceDSN, datasets)
	s.work(ks, rs, my.Open(t, replicaDSN), replicaDSN, datasets)
	s.serve(path, sourceDSN, rs)
	return s
}

// onTopic returns the example's dataset with a topic of this test alone.
func onTopic(t *testing.T, topic string) *schemas.Datasets {
	t.Helper()
	files := fstest.MapFS{}
	for _, name := range []string{"products.yaml", "products.json"} {
		b, err := os.ReadFile("datasets/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	files["products.yaml"].Data = append(files["products.yaml"].Data, "topic: "+topic+"\n"...)
	set, err := schemas.LoadDatasets(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// background runs fn until the test ends.
func (s *shop) background(fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}

func (s *shop) relay(ks *testenv.KafkaServer, dsn string, datasets *schemas.Datasets) {
	kafka, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers})
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := relay.New(relay.Config{MySQL: mysql.Config{DSN: dsn}, Kafka: kafka, Datasets: datasets})
	if err != nil {
		s.t.Fatal(err)
	}
	s.background(func(ctx context.Context) error { return errors.Join(r.Run(ctx), kafka.Close()) })
}

func (s *shop) work(ks *testenv.KafkaServer, rs *testenv.RedisServer, db *sql.DB, dsn string, datasets *schemas.Datasets) {
	t := s.t
	t.Helper()
	mig, err := migrations.New(db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ddl, err := tables.Migrate(t.Context(), db, datasets.All(), false); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
	ns := rs.Namespace(t)
	w, err := consumer.New(consumer.Config{
		Datasets: datasets, Namespace: ns, Group: ns, Redis: rs.Client(t), Kafka: consumer.Kafka{Brokers: ks.Brokers}, MySQL: consumer.MySQL{DSN: dsn},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.background(func(ctx context.Context) error { return errors.Join(w.Run(ctx), w.Close()) })
}

// serve starts the page.
func (s *shop) serve(path, dsn string, rs *testenv.RedisServer) {
	t := s.t
	t.Helper()
	cfg, err := driver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	place := "unix_socket=" + cfg.Addr
	if cfg.Net != "unix" {
		host, port, err := net.SplitHostPort(cfg.Addr)
		if err != nil {
			t.Fatal(err)
		}
		place = "host=" + host + ";port=" + port
	}
	host, port, err := net.SplitHostPort(rs.Addr)
	if err != nil { // a socket
		host, port = rs.Addr, "0"
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-S", addr, "index.php")
	cmd.Env = append(os.Environ(), "DB_DSN=mysql:"+place+";charset=utf8mb4;dbname="+cfg.DBName, "DB_USER="+cfg.User, "DB_PASSWORD="+cfg.Passwd,
		"REDIS_HOST="+host, "REDIS_PORT="+port)
	testenv.StartProcess(t, "php", cmd)
	s.url = "http://" + addr + "/?sku="
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		_, _, err := s.get(ctx, "lamp-1")
		return err
	})
}

// get returns the page, and whether it was cached or rendered.
func (s *shop) get(ctx context.Context, sku string) (page, from string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+sku, nil)
	if err != nil {
		return "", "", err
	}
	return s.do(req, http.StatusOK)
}

func (s *shop) do(req *http.Request, want int) (body, from string, err error) {
	res, err := s.client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != want {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	return string(text), res.Header.Get("X-Page"), err
}

// A cached page follows a change that another request commits, although no code of the page deletes it.
func TestCachedPageFollowsTheRow(t *testing.T) {
	s := newShop(t)
	if page, from, err := s.get(t.Context(), "lamp-1"); err != nil || from != "cached" || !strings.Contains(page, "12.50") {
		t.Fatalf("the page is %q, %s, %v; want the cached one", page, from, err)
	}
	for _, price := range []string{"9.90", "14.00"} {
		form := strings.NewReader(url.Values{"price": {price}}.Encode())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"lamp-1", form)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if _, _, err := s.do(req, http.StatusNoContent); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, patience, func(ctx context.Context) error {
			page, _, err := s.get(ctx, "lamp-1")
			if err == nil && !strings.Contains(page, price) {
				err = fmt.Errorf("the page still says %q", page)
			}
			return err
		})
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"none", strings.NewReader("price=1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.do(req, http.StatusNotFound); err != nil {
		t.Error(err)
	}
}
