package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is for hangs only.
const patience = 60 * time.Second

// site is three nodes behind a balancer, and a worker.
type site struct {
	t   *testing.T
	url string
	db  *sql.DB
}

// newSite starts everything; wrap, if not nil, stands between the balancer and each node.
func newSite(t *testing.T, wrap func(http.Handler) http.Handler) *site {
	t.Helper()
	balancer, err := haproxy()
	if err != nil {
		testenv.Skip(t, err.Error())
	}
	ks, ms, rs := testenv.Kafka(t), testenv.MySQL(t), testenv.Redis(t)
	o := options{brokers: strings.Join(ks.Brokers, ","), dsn: ms.NewDatabase(t), namespace: rs.Namespace(t), redis: "redis://" + rs.Addr + "/0"}
	if rs.Addr == "" {
		o.redis = "unix://" + rs.Socket
	}
	s := &site{t: t, db: ms.Open(t, o.dsn)}
	datasets := onTopic(t, ks.CreateTopic(t, 4))
	s.work(ks, rs, o, datasets)
	var addresses []string
	for range 3 {
		n, err := open(t.Context(), o, datasets, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		h := n.handler
		if wrap != nil {
			h = wrap(h)
		}
		server := httptest.NewServer(h)
		t.Cleanup(func() {
			server.Close()
			if err := n.close(); err != nil {
				t.Error(err)
			}
		})
		addresses = append(addresses, server.Listener.Addr().String())
	}
	s.balance(balancer, addresses)
	return s
}

// onTopic gives the example's dataset with a topic of this test alone.
func onTopic(t *testing.T, topic string) *schemas.Datasets {
	t.Helper()
	files := fstest.MapFS{}
	for _, name := range []string{"sessions.yaml", "sessions.json"} {
		b, err := fs.ReadFile(declarations(), name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	files["sessions.yaml"].Data = append(files["sessions.yaml"].Data, "topic: "+topic+"\n"...)
	set, err := schemas.LoadDatasets(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// work runs a worker until the test ends.
func (s *site) work(ks *testenv.KafkaServer, rs *testenv.RedisServer, o options, datasets *schemas.Datasets) {
	t := s.t
	t.Helper()
	mig, err := migrations.New(s.db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ddl, err := replica.Migrate(t.Context(), s.db, datasets.All(), false); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
	client, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers})
	if err != nil {
		t.Fatal(err)
	}
	db, err := replica.Open(t.Context(), replica.Config{DSN: o.dsn})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Prepare(t.Context(), datasets.All()); err != nil {
		t.Fatal(err)
	}
	emitter, err := invalidation.NewEmitter(rs.Client(t), invalidation.EmitterConfig{Namespace: o.namespace})
	if err != nil {
		t.Fatal(err)
	}
	w, err := consumer.New(consumer.Config{
		Group: o.namespace, Owner: "w", Datasets: datasets, Kafka: client, Emitter: emitter,
		Replica: db, Topics: db, Lanes: db.LaneLog(o.namespace), Hashes: db, Pauses: db, Restarts: db, Binding: db, BindTo: o.namespace,
		Consumer: kafkalog.ConsumerConfig{FetchWait: 20 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, emitter.Close(), db.Close(), client.Close()); err != nil {
			t.Error(err)
		}
	})
}

// haproxy finds the balancer.
func haproxy() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no haproxy (Debian: haproxy); make test installs it where it runs as root on Debian")
}

// balance starts HAProxy with the example's own configuration, on a port that is free, and waits until it uses all nodes.
func (s *site) balance(path string, nodes []string) {
	t := s.t
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-db", "-f", "haproxy.cfg")
	cmd.ExtraFiles = []*os.File{f} // the child's descriptor 3: the port cannot be taken in between
	cmd.Env = append(os.Environ(), "LISTEN=fd@3", "NODE1="+nodes[0], "NODE2="+nodes[1], "NODE3="+nodes[2])
	testenv.StartProcess(t, "haproxy", cmd)
	if err := errors.Join(f.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, Timeout: patience}
	served := map[string]bool{}
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		served[resp.Header.Get("Served-By")] = resp.StatusCode == http.StatusNoContent
		if !served["one"] || !served["two"] || !served["three"] {
			return fmt.Errorf("served by %v", served)
		}
		return nil
	})
}
