package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const rereadLimit = 30 * time.Second

// pki is a folder with an authority, and a certificate and a key that it signed.
type pki struct {
	t      *testing.T
	dir    string
	server atomic.Pointer[tls.Config] // what a server of the newest authority uses; it asks for certificates
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	k := &pki{t: t, dir: t.TempDir()}
	k.replaceAll()
	return k
}

func (k *pki) path(name string) string { return filepath.Join(k.dir, name) }

func (k *pki) write(name string, content []byte) {
	k.t.Helper()
	if err := os.WriteFile(k.path(name), content, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// replace makes the server use a new authority, and returns what writes the files by which clients know it.
func (k *pki) replace() (files func()) {
	a := testenv.NewAuthority(k.t)
	k.server.Store(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.Sign(k.t)}, ClientCAs: a.Pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	return func() {
		cert, key := a.SignPEM(k.t)
		k.write("ca.pem", a.PEM)
		k.write("cert.pem", cert)
		k.write("key.pem", key)
	}
}

func (k *pki) replaceAll() { k.replace()() }

// newest is a server's configuration that uses the newest authority for each connection.
func (k *pki) newest() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.server.Load(), nil }}
}

// env is the section of a client's settings.
func (k *pki) env(section string) []string {
	p := "FRESHET_" + section + "__TLS__"
	return []string{p + "ENABLED=true", p + "CA_FILE=" + k.path("ca.pem"), p + "CERT_FILE=" + k.path("cert.pem"), p + "KEY_FILE=" + k.path("key.pem")}
}

func loaded(t *testing.T, environ ...string) config.Config {
	t.Helper()
	l, err := config.Load(config.Source{Environ: append(environ, "FRESHET_DATASETS=../../../../examples/shop/datasets")})
	if err != nil {
		t.Fatal(err)
	}
	return l.Config
}

// rotated proves that try, which makes a new connection, works, then fails after the server's side was replaced, and works
// again with the new files.
func rotated(t *testing.T, k *pki, try func(context.Context) error) {
	t.Helper()
	within := func() (context.Context, context.CancelFunc) { return context.WithTimeout(t.Context(), 10*time.Second) }
	ctx, cancel := within()
	defer cancel()
	if err := try(ctx); err != nil {
		t.Fatalf("at first: %v", err)
	}
	files := k.replace()
	ctx, cancel = within()
	defer cancel()
	if err := try(ctx); err == nil {
		t.Fatal("no new connection was made")
	}
	files()
	testenv.Eventually(t, rereadLimit, try)
}

func TestKafkaUsesReplacedCertificates(t *testing.T) {
	k := newPKI(t)
	cl, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "freshet.users"), kfake.TLS(k.newest()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	c := loaded(t, append(k.env("KAFKA"), "FRESHET_KAFKA__BROKERS="+strings.Join(cl.ListenAddrs(), ","))...)
	log := telemetry.NewLogger(io.Discard, "info", "text")
	kafka, err := Kafka(c, log)
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	rotated(t, k, func(ctx context.Context) error {
		_, err := kafka.Topic(ctx, "freshet.users")
		return err
	})
	// The transport of a third library has connections of its own.
	testenv.Eventually(t, rereadLimit, func(ctx context.Context) error {
		return kafka.CreateTopics(ctx, []kafkalog.TopicSpec{{Name: "made.after"}})
	})
	set, err := Datasets(c)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := Producer(c, set, log)
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	k.replaceAll()
	if _, err := pub.Invalidate(t.Context(), "shop", []string{"user:1"}, nil); !errors.Is(err, kafkalog.ErrNoTopic) {
		t.Errorf("a producer after the certificates were replaced: %v, want that the topic is missing", err)
	}
}

// tlsFront leads to a server that has no TLS itself, and can cut its connections.
func tlsFront(t *testing.T, k *pki, target string) *testenv.Proxy {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", k.newest())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer in.Close()
				out, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", target)
				if err != nil {
					return
				}
				defer out.Close()
				wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
				_, _ = io.Copy(out, in)
			})
		}
	})
	p := testenv.NewProxy(t, l.Addr().String())
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		wg.Wait()
	})
	return p
}

func TestRedisUsesReplacedCertificates(t *testing.T) {
	k := newPKI(t)
	front := tlsFront(t, k, testenv.Redis(t).Addr)
	c := loaded(t, append(k.env("REDIS"), "FRESHET_REDIS__URL=rediss://"+front.Addr+"/0")...)
	rdb, err := Redis(c)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	rotated(t, k, func(ctx context.Context) error {
		front.Cut()
		return rdb.Ping(ctx).Err()
	})
}

func TestMySQLUsesReplacedCertificates(t *testing.T) {
	k, server := newPKI(t), t.TempDir()
	serverFiles := func(a *testenv.Authority) {
		cert, key := a.SignPEM(t)
		for name, content := range map[string][]byte{"ca.pem": a.PEM, "cert.pem": cert, "key.pem": key} {
			if err := os.WriteFile(filepath.Join(server, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	clientFiles := func(a *testenv.Authority) {
		cert, key := a.SignPEM(t)
		k.write("ca.pem", a.PEM)
		k.write("cert.pem", cert)
		k.write("key.pem", key)
	}
	a := testenv.NewAuthority(t)
	serverFiles(a)
	clientFiles(a)
	my := testenv.StartMySQL(t, testenv.MySQLOptions{Args: []string{
		"--ssl-ca=" + filepath.Join(server, "ca.pem"), "--ssl-cert=" + filepath.Join(server, "cert.pem"), "--ssl-key=" + filepath.Join(server, "key.pem"),
	}})
	dsn, err := mysql.ParseDSN(my.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	root := my.Open(t, my.DSN(""))
	exec := func(stmt string) {
		t.Helper()
		if _, err := root.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE USER secure@'127.0.0.1' IDENTIFIED BY 'p' REQUIRE X509")
	exec("GRANT ALL ON *.* TO secure@'127.0.0.1'")
	c := loaded(t, append(k.env("MYSQL"), "FRESHET_MYSQL__DSN=secure:p@tcp("+my.Addr+")/"+dsn.DBName)...)
	db, err := Replica(t.Context(), c, telemetry.NewLogger(io.Discard, "info", "text"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	try := func(ctx context.Context) error {
		db.SQL().SetMaxIdleConns(0) // each makes a connection
		return db.Ping(ctx)
	}
	if err := try(t.Context()); err != nil {
		t.Fatal(err)
	}
	a = testenv.NewAuthority(t)
	serverFiles(a)
	if my.MariaDB() {
		exec("FLUSH SSL")
	} else {
		exec("ALTER INSTANCE RELOAD TLS")
	}
	if err := try(t.Context()); err == nil {
		t.Fatal("no new connection was made")
	}
	clientFiles(a)
	testenv.Eventually(t, rereadLimit, try)
}

func TestAdminListenerUsesReplacedCertificates(t *testing.T) {
	k := newPKI(t)
	p := "FRESHET_ADMIN__TLS__"
	c := loaded(t, p+"CERT_FILE="+k.path("cert.pem"), p+"KEY_FILE="+k.path("key.pem"), p+"CLIENT_CA_FILE="+k.path("ca.pem"))
	own, err := AdminTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", own)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { _ = srv.Close(); wg.Wait() })
	ask := func(ctx context.Context, other *tls.Config) error {
		tr := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: other.ClientCAs, Certificates: other.Certificates}}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+l.Addr().String(), nil)
		if err != nil {
			return err
		}
		res, err := tr.RoundTrip(req)
		if err == nil {
			err = res.Body.Close()
		}
		return err
	}
	former := k.server.Load()
	rotated(t, k, func(ctx context.Context) error { return ask(ctx, k.server.Load()) })
	if err := ask(t.Context(), former); err == nil {
		t.Error("a client of the previous authority is served")
	}
	k.write("key.pem", []byte("damaged"))
	if err := ask(t.Context(), k.server.Load()); err != nil {
		t.Errorf("after the key was damaged: %v", err)
	}
	if got := fmt.Sprint(c.Files().Problems()); !strings.Contains(got, "admin.tls.cert_file and key_file") {
		t.Errorf("problems: %s", got)
	}
}

// Only the login may change under a running process.
func TestOtherChangesOfAnAddressNeedARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for mode, urls := range map[string][3]string{
		"single":   {"redis://u:one@h:1/0", "redis://v:two@h:1/0", "redis://u:three@other:1/0"},
		"sentinel": {"redis://s:s@h:1/0?master_name=m&username=u&password=one", "redis://s:s@h:1/0?master_name=m&username=v&password=two", "redis://s:t@h:1/0?master_name=m&username=u&password=three"},
		"mysql":    {"u:one@tcp(h:1)/d", "v:two@tcp(h:1)/d", "u:three@tcp(h:1)/other"},
	} {
		t.Run(mode, func(t *testing.T) {
			take := takeURL(mode)
			if mode == "mysql" {
				take = takeDSN
			}
			c := loaded(t)
			write(urls[0])
			v, err := openLogin(c.Files(), "it", file, config.Secret(urls[0]), take)
			if err != nil || v.Get() != (login{"u", "one"}) {
				t.Fatalf("at first: %v", err)
			}
			write(urls[1] + "\n")
			if v.Get() != (login{"v", "two"}) || len(c.Files().Problems()) > 0 {
				t.Errorf("another login: %q", c.Files().Problems())
			}
			write(urls[2])
			got := fmt.Sprint(c.Files().Problems())
			if v.Get() != (login{"v", "two"}) || !strings.Contains(got, "restart") || strings.Contains(got, "three") {
				t.Errorf("another address: %s", got)
			}
		})
	}
}
