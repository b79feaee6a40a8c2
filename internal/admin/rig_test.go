package admin_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/livefile"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const itemSchema = `{"type":"object","required":["id"],"properties":{"id":{"type":"string","maxLength":64},"n":{"type":"integer"}}}`

const itemDataset = "dataset: items\ntopic: %s\nschema: items.json\nkey: [id]\nreplica:\n  table: items\ncache:\n  key: \"item:{id}\"\n"

// rig is a server over real Kafka, MariaDB and Redis, with one token for each role.
type rig struct {
	t        testing.TB
	cfg      admin.Config
	server   *admin.Server
	http     *httptest.Server
	tokens   map[string]string // role → token
	file     string
	db       *sql.DB
	redis    *testenv.RedisServer
	datasets *schemas.Datasets
	producer *producer.Producer
}

// newRig makes a rig; change, if not nil, alters the configuration before the server is made.
func newRig(t testing.TB, change func(*admin.Config)) *rig {
	t.Helper()
	ks, my, rs := testenv.Kafka(t), testenv.MySQL(t), testenv.Redis(t)
	r := &rig{t: t, tokens: map[string]string{}, redis: rs}
	topic := ks.CreateTopic(t, 2)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "items.json"), itemSchema)
	write(t, filepath.Join(dir, "items.yaml"), fmt.Sprintf(itemDataset, topic))
	set, err := schemas.LoadDatasets(os.DirFS(dir))
	must(t, err)
	r.datasets = set
	dsn := my.NewDatabase(t)
	r.db = my.Open(t, dsn)
	migrate(t, my, dsn)
	ctx := context.Background()
	rep, err := replica.Open(ctx, replica.Config{MySQL: mysql.Config{DSN: dsn}})
	must(t, err)
	t.Cleanup(func() { rep.Close() })
	_, err = tables.Migrate(ctx, rep.SQL(), set.All(), false)
	must(t, err)
	_, err = rep.Prepare(ctx, set.All())
	must(t, err)
	kafka, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers})
	must(t, err)
	t.Cleanup(func() { kafka.Close() })
	r.producer, err = producer.New(producer.Config{Brokers: ks.Brokers, Datasets: set, Source: "//admin/test"})
	must(t, err)
	t.Cleanup(func() { r.producer.Close() })
	r.file = filepath.Join(dir, "tokens")
	var lines []string
	for _, role := range []string{"viewer", "operator", "admin", "publisher", "follower"} {
		ro, err := access.ParseRole(role)
		must(t, err)
		token, line, err := access.NewToken(role+"-1", ro)
		must(t, err)
		r.tokens[role] = token
		lines = append(lines, line)
	}
	write(t, r.file, "# tokens of a test\n"+strings.Join(lines, "\n")+"\n")
	var files livefile.Set
	tokens, err := access.OpenTokens(r.file, &files)
	must(t, err)
	ns := rs.Namespace(t)
	must(t, kafka.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: schemas.InvalidationTopic(ns)}}))
	t.Cleanup(func() { _ = kafka.DeleteTopics(context.Background(), []string{schemas.InvalidationTopic(ns)}) })
	r.cfg = admin.Config{
		Tokens: tokens, Rate: 100_000, Datasets: set, Namespace: ns, Group: ns, Kafka: kafka, Replica: rep, Redis: rs.Client(t), Producer: r.producer,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "freshet_up 1\n") }), Version: "test", Drain: -1,
		Warnings: files.Problems,
	}
	if change != nil {
		change(&r.cfg)
	}
	r.server, err = admin.New(r.cfg)
	must(t, err)
	r.http = httptest.NewServer(r.server.Handler())
	t.Cleanup(r.http.Close)
	return r
}

func migrate(t testing.TB, my *testenv.MySQLServer, dsn string) {
	t.Helper()
	c, err := gomysql.ParseDSN(dsn)
	must(t, err)
	c.ParseTime = true
	m, err := migrations.New(my.Open(t, c.FormatDSN()), migrations.Config{})
	must(t, err)
	_, err = m.Up(context.Background())
	must(t, err)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer is what a request brought.
type answer struct {
	status int
	body   []byte
	header http.Header
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("answer %d is not JSON: %v\n%s", a.status, err, a.body)
	}
}

// do makes a request as a role; "" has no token. body is JSON, nil none, or a string that is sent unchanged.
func (r *rig) do(role, method, path string, body any, headers ...string) answer {
	r.t.Helper()
	var rd io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		rd = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		must(r.t, err)
		rd = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.http.URL+path, rd)
	must(r.t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token, ok := r.tokens[role]; ok {
		req.Header.Set("Authorization", "Bearer "+token)
	} else if role != "" {
		req.Header.Set("Authorization", "Bearer "+role)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	must(r.t, err)
	defer res.Body.Close()
	var b []byte
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") { // that one has no end
		b, err = io.ReadAll(res.Body)
		must(r.t, err)
	}
	return answer{res.StatusCode, b, res.Header}
}

// want is do with the status that must come.
func (r *rig) want(status int, role, method, path string, body any, headers ...string) answer {
	r.t.Helper()
	a := r.do(role, method, path, body, headers...)
	if a.status != status {
		r.t.Fatalf("%s %s as %q: got %d, want %d\n%s", method, path, role, a.status, status, a.body)
	}
	return a
}

type ctxT = context.Context

type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }
