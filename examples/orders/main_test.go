package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

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

// onTopic returns the example's dataset with a topic of this test alone.
func onTopic(t *testing.T, topic string) *schemas.Datasets {
	t.Helper()
	out := fstest.MapFS{}
	for _, name := range []string{"orders.yaml", "orders.json"} {
		b, err := fs.ReadFile(files, "datasets/"+name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = &fstest.MapFile{Data: b}
	}
	out["orders.yaml"].Data = append(out["orders.yaml"].Data, "topic: "+topic+"\n"...)
	set, err := schemas.LoadDatasets(out)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// background runs fn until the test ends.
func background(t *testing.T, fn func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// shop starts a worker, a relay and three processes of the service, and returns their URLs.
func shop(t *testing.T) (urls []string) {
	t.Helper()
	ks, my, rs := testenv.Kafka(t), testenv.MySQL(t), testenv.Redis(t)
	o := options{
		redis: "redis://" + rs.Addr + "/0", source: my.NewDatabase(t), replica: my.NewDatabase(t), namespace: rs.Namespace(t),
	}
	datasets := onTopic(t, ks.CreateTopic(t, 4))
	source, db := my.Open(t, o.source), my.Open(t, o.replica)
	for _, stmt := range outbox.DDL() {
		if _, err := source.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
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
	w, err := consumer.New(consumer.Config{
		Datasets: datasets, Namespace: o.namespace, Group: o.namespace, Redis: rs.Client(t),
		Kafka: consumer.Kafka{Brokers: ks.Brokers}, MySQL: consumer.MySQL{DSN: o.replica},
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error { return errors.Join(w.Run(ctx), w.Close()) })
	kafka, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers})
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Config{MySQL: mysql.Config{DSN: o.source}, Kafka: kafka, Datasets: datasets})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error { return errors.Join(r.Run(ctx), kafka.Close()) })
	for range 3 {
		s, err := open(t.Context(), o, datasets, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(s.handler())
		t.Cleanup(func() {
			server.Close()
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
		urls = append(urls, server.URL)
	}
	return urls
}

// ask sends a request and returns the order and its version.
func ask(ctx context.Context, client *http.Client, method, url, body, version string) (o order, newVersion string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return o, "", err
	}
	if version != "" {
		req.Header.Set(versionHeader, version)
	}
	res, err := client.Do(req)
	if err != nil {
		return o, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return o, "", err
	}
	if res.StatusCode/100 != 2 {
		return o, "", fmt.Errorf("%s %s: %s: %s", method, url, res.Status, text)
	}
	return o, res.Header.Get(versionHeader), json.Unmarshal(text, &o)
}

// Eight clients write through one process and read through the next one, 20 times each, and always find their own write.
func TestClientsReadTheirOwnWrites(t *testing.T) {
	urls := shop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	client := &http.Client{Timeout: 30 * time.Second}
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			o, _, err := ask(ctx, client, http.MethodPost, urls[c%3]+"/orders", `{"customer":"ada","total":"12.50"}`, "")
			for i := 0; i < 20 && err == nil; i++ {
				want := []string{"paid", "sent"}[i%2]
				path := fmt.Sprintf("/orders/%d", o.ID)
				var version string
				_, version, err = ask(ctx, client, http.MethodPut, urls[(c+i)%3]+path+"/status", `{"status":"`+want+`"}`, "")
				if err != nil {
					break
				}
				for n := range 2 {
					var got order
					got, _, err = ask(ctx, client, http.MethodGet, urls[(c+i+n+1)%3]+path, "", version)
					if err == nil && (got.Status != want || got.Customer != "ada" || got.Total != "12.50") {
						err = fmt.Errorf("client %d reads %+v, and wrote the status %s as version %s", c, got, want, version)
					}
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
}

func TestBadRequestsChangeNothing(t *testing.T) {
	urls := shop(t)
	client := &http.Client{Timeout: 30 * time.Second}
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/orders", `{"total":"12.50"}`, "400"},
		{http.MethodPost, "/orders", `no JSON`, "400"},
		{http.MethodPut, "/orders/77/status", `{"status":"paid"}`, "404"},
		{http.MethodPut, "/orders/x/status", `{"status":"paid"}`, "400"},
		{http.MethodGet, "/orders/77", "", "404"},
	} {
		if _, _, err := ask(t.Context(), client, c.method, urls[0]+c.path, c.body, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s %s: %v, want %s", c.method, c.path, c.body, err, c.want)
		}
	}
}
