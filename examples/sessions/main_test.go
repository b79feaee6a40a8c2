package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) {
	if os.Getenv(nodeVar) != "" {
		os.Exit(nodeProcess())
	}
	testenv.Main(m)
}

// patience is for hangs only.
const patience = 60 * time.Second

// site is three nodes behind a balancer, and a worker.
type site struct {
	t   *testing.T
	url string
	db  *sql.DB
	// nodes are the addresses of the nodes, links what is between each of them and Redis.
	redis *testenv.RedisServer
	nodes []string
	links []*testenv.Proxy
	// socket is the balancer's, "" for one that listens on a port.
	socket string
}

// newSite starts everything behind HAProxy; wrap, if not nil, stands between the balancer and each node.
func newSite(t *testing.T, wrap func(http.Handler) http.Handler) *site {
	t.Helper()
	path := balancer(t, "haproxy")
	s := newNodes(t, wrap)
	s.balance(path)
	return s
}

// newNodes starts everything but the balancer.
func newNodes(t *testing.T, wrap func(http.Handler) http.Handler) *site {
	t.Helper()
	s, o, topic := newWorker(t)
	datasets := onTopic(t, topic)
	for range 3 {
		n, err := open(t.Context(), s.linked(o), datasets, slog.New(slog.DiscardHandler))
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
		s.nodes = append(s.nodes, server.Listener.Addr().String())
	}
	return s
}

// newWorker starts the servers and a worker, and returns what its nodes need.
func newWorker(t *testing.T) (s *site, o options, topic string) {
	t.Helper()
	ks, ms, rs := testenv.Kafka(t), testenv.MySQL(t), testenv.StartRedis(t, testenv.RedisOptions{})
	o = options{brokers: strings.Join(ks.Brokers, ","), dsn: ms.NewDatabase(t), namespace: rs.Namespace(t)}
	s = &site{t: t, db: ms.Open(t, o.dsn), redis: rs}
	topic = ks.CreateTopic(t, 4)
	s.work(ks, rs, o, onTopic(t, topic))
	return s, o, topic
}

// linked returns the options of one more node, with a link to Redis of its own.
func (s *site) linked(o options) options {
	link := testenv.NewProxy(s.t, s.redis.Addr)
	s.links = append(s.links, link)
	o.redis = "redis://" + link.Addr + "/0"
	return o
}

// onTopic returns the example's dataset with a topic of this test alone.
func onTopic(t *testing.T, topic string) *schemas.Datasets {
	t.Helper()
	set, err := loadOnTopic(topic)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func loadOnTopic(topic string) (*schemas.Datasets, error) {
	files := fstest.MapFS{}
	for _, name := range []string{"sessions.yaml", "sessions.json"} {
		b, err := fs.ReadFile(declarations(), name)
		if err != nil {
			return nil, err
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	files["sessions.yaml"].Data = append(files["sessions.yaml"].Data, "topic: "+topic+"\n"...)
	return schemas.LoadDatasets(files)
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
	if ddl, err := tables.Migrate(t.Context(), s.db, datasets.All(), false); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
	w, err := consumer.New(consumer.Config{
		Datasets: datasets, Namespace: o.namespace, Group: o.namespace, Redis: rs.Client(t),
		Kafka: consumer.Kafka{Brokers: ks.Brokers}, MySQL: consumer.MySQL{DSN: o.dsn},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, w.Close()); err != nil {
			t.Error(err)
		}
	})
}

// balancer finds a balancer's program.
func balancer(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	testenv.Skip(t, "no "+name+"; make test installs it where it runs as root on Debian")
	return ""
}

// balance starts HAProxy with the configuration in deploy, on a port that is free, and waits until it uses all nodes.
func (s *site) balance(path string) {
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
	cmd := exec.Command(path, "-db", "-f", "../../deploy/haproxy/haproxy.cfg")
	cmd.ExtraFiles = []*os.File{f} // the child's descriptor 3: the port cannot be taken in between
	cmd.Env = append(os.Environ(), "LISTEN=fd@3", "NODE1="+s.nodes[0], "NODE2="+s.nodes[1], "NODE3="+s.nodes[2])
	testenv.StartProcess(t, "haproxy", cmd)
	if err := errors.Join(f.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	s.awaitServed("one", "two", "three")
}

// transport leads to the balancer.
func (s *site) transport() *http.Transport {
	tr := &http.Transport{}
	if s.socket != "" {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.socket)
		}
	}
	s.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// awaitServed waits until a run of requests was served by exactly these nodes, each as a request without a session.
func (s *site) awaitServed(want ...string) {
	s.t.Helper()
	client := &http.Client{Transport: s.transport(), Timeout: patience}
	testenv.Eventually(s.t, patience, func(ctx context.Context) error {
		served := map[string]int{}
		for range 12 {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/session", nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusUnauthorized {
				return fmt.Errorf("status %d, %w", resp.StatusCode, err)
			}
			served[resp.Header.Get("Served-By")]++
		}
		if got := slices.Sorted(maps.Keys(served)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return fmt.Errorf("served by %v, want %v", got, want)
		}
		return nil
	})
}
