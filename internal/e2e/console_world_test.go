package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/browser"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// sane makes the table of products refuse stocks that the schema allows.
const sane = "ALTER TABLE products ADD CONSTRAINT sane CHECK (stock < 1000000)"

// secret is in the content of every product, so that a page that shows content shows it.
const secret = "Zanzibar"

// console is the shop of examples/shop with workers, nodes, data, dead letters and jobs, and its page.
type console struct {
	*world
	url     string
	tokens  map[string]string // by role
	pub     *producer.Producer
	nodes   []*invalidation.Node
	caches  []map[string]*invalidation.Cache[props] // of each node by dataset
	version *atomic.Int64                           // the newest that was published
	worker  *testenv.Process
	link    *testenv.Proxy // between shop-3 and Redis
	job     string         // a replay that is done
}

// newConsole starts all of it. topics are the names of the topics by dataset; nil: new ones.
func newConsole(t *testing.T, topics map[string]string) *console {
	t.Helper()
	c := &console{tokens: map[string]string{}, version: &atomic.Int64{}}
	c.world = newWorldOn(t, servers{}, shopFiles(t, topics))
	c.exec(sane)
	var lines []string
	for _, role := range []string{"viewer", "operator", "admin"} {
		var made struct{ Token, Line string }
		if err := json.Unmarshal([]byte(c.mustRun("admin", "token", "--name", role, "--role", role, "--json")), &made); err != nil {
			t.Fatal(err)
		}
		c.tokens[role], lines = made.Token, append(lines, made.Line)
	}
	file := filepath.Join(t.TempDir(), "tokens")
	writeFile(t, file, []byte(strings.Join(lines, "\n")+"\n"))
	c.env = append(c.env, "FRESHET_ADMIN__TOKENS_FILE="+file, "FRESHET_CLIENT__TOKEN="+c.tokens["admin"], "FRESHET_ADMIN__RATE=5000", "FRESHET_WORKER__SAMPLES=20", "FRESHET_WORKER__STALE_AFTER=12s")
	c.worker = c.startWorker()
	c.url = c.api()
	c.pub = c.producer()
	c.link = testenv.NewProxy(t, c.redis.Addr)
	for i, addr := range []string{c.redis.Addr, c.redis.Addr, c.link.Addr} {
		c.join(fmt.Sprintf("shop-%d", i+1), addr)
	}
	c.fill()
	return c
}

// in is the same console for a test within the first one.
func (c *console) in(t *testing.T) *console {
	out, w := *c, *c.world
	w.t, out.world = t, &w
	return &out
}

// shopFiles are the dataset folder of the shop, with topics.
func shopFiles(t *testing.T, topics map[string]string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := fs.Glob(shop.Datasets(), "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(shop.Datasets(), name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
		if dataset, ok := strings.CutSuffix(name, ".yaml"); ok {
			topic := topics[dataset]
			if topic == "" {
				topic = testenv.Kafka(t).Topic(t)
			}
			files[name] += "topic: " + topic + "\n"
		}
	}
	return files
}

// join adds a node that caches all datasets, in the plain form, so that a test can write an entry by hand.
func (c *console) join(id, addr string) {
	c.t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	c.t.Cleanup(func() { rdb.Close() })
	n, err := invalidation.Join(c.t.Context(), rdb, invalidation.Config{Namespace: c.ns, Datasets: c.datasets, ID: id})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { n.Close() })
	caches := map[string]*invalidation.Cache[props]{}
	for _, d := range c.datasets.All() {
		caches[d.Name], err = invalidation.NewCache(n, invalidation.CacheConfig[props]{Dataset: d.Name, Form: invalidation.FormNone, Load: func(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[props], error) {
			row, err := c.replica.Rows.Get(ctx, d, key)
			out := invalidation.Loaded[props]{Version: row.Version, Found: row.Found && !row.Deleted, From: invalidation.Primary}
			if err == nil && out.Found {
				out.Value = row.Properties(d)
			}
			return out, err
		}})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	c.nodes, c.caches = append(c.nodes, n), append(c.caches, caches)
}

// publish sends new versions of records and returns the token.
func (c *console) publish(dataset string, keys ...string) schemas.Token {
	c.t.Helper()
	version := c.version.Add(1)
	var events []schemas.Event
	for i, key := range keys {
		events = append(events, shopEvent(dataset, key, version, i))
	}
	return publish(c.t, c.pub, events...)
}

// shopEvent is a version of a record, whose content is made from its key and i.
func shopEvent(dataset, key string, version int64, i int) schemas.Event {
	var data map[string]any
	switch dataset {
	case "products":
		data = map[string]any{"sku": key, "title": secret + " " + key, "price": fmt.Sprintf("%d.90", 10+i%90), "currency": "CHF", "stock": 100 + i%400, "labels": []string{"new", "oak"}}
	case "users":
		data = map[string]any{"id": json.Number(key), "email": "user" + key + "@example.com", "name": "User " + key, "country": "CH", "active": true}
	case "orders":
		_, number, _ := strings.Cut(key, ",")
		data = map[string]any{"shop": "ch", "number": json.Number(number), "user_id": i%40 + 1, "state": "paid", "total": fmt.Sprintf("%d.40", 20+i%80), "placed_at": "2026-05-04T10:00:00Z"}
	}
	text, _ := json.Marshal(data) // of plain values
	return schemas.Event{Dataset: dataset, Key: key, Op: schemas.Upsert, Version: version, Data: text}
}

// The keys of the records that the console starts with.
func shopKeys(dataset string) (keys []string) {
	for i := range 40 {
		switch dataset {
		case "products":
			keys = append(keys, fmt.Sprintf("lamp-%02d", i+1))
		case "users":
			keys = append(keys, fmt.Sprint(i+1))
		case "orders":
			keys = append(keys, fmt.Sprintf("ch,%d", 1001+i))
		}
	}
	return keys
}

// fill publishes records in several versions, lets nodes cache them, makes dead letters of two kinds and runs a replay.
func (c *console) fill() {
	c.t.Helper()
	for _, dataset := range []string{"products", "users", "orders"} {
		for range 3 {
			c.publish(dataset, shopKeys(dataset)...)
		}
		c.reaches(len(shopKeys(dataset)), "SELECT COUNT(*) FROM "+dataset+" WHERE _version = ?", c.version.Load())
		for _, caches := range c.caches {
			for _, key := range shopKeys(dataset) {
				if _, err := caches[dataset].Get(c.t.Context(), key); err != nil && !errors.Is(err, invalidation.ErrNotFound) {
					c.t.Fatal(err)
				}
			}
		}
	}
	for _, key := range []string{"sofa-1", "sofa-2", "sofa-3"} {
		publish(c.t, c.pub, schemas.Event{
			Dataset: "products", Key: key, Op: schemas.Upsert, Version: c.version.Add(1),
			Data: fmt.Appendf(nil, `{"sku":%q,"title":%q,"price":"900.00","stock":5000000}`, key, secret+" "+key),
		})
	}
	users, _ := c.datasets.Get("users")
	for range 2 {
		if err := c.kafka.Client(c.t).ProduceSync(c.t.Context(), &kgo.Record{Topic: users.Topic, Key: []byte("7"), Value: []byte("no event")}).FirstErr(); err != nil {
			c.t.Fatal(err)
		}
	}
	c.reaches(5, "SELECT COUNT(*) FROM freshet_dead_letter")
	done := ask[api.Replay](c.world, c.url, 0, "replay", "start", "users", "--apply", "--watch", "--reason", "a column was added")
	c.job = done.ID
}

// letter is the id of the open dead letter of a key.
func (c *console) letter(key string) string {
	c.t.Helper()
	var found struct{ Items []api.Letter }
	c.ask("admin", "/v1/deadletters?state=open&key="+key, &found)
	if len(found.Items) != 1 {
		c.t.Fatalf("%d open dead letters of %s", len(found.Items), key)
	}
	return found.Items[0].ID
}

// ask reads an answer of the API.
func (c *console) ask(role, path string, out any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.tokens[role])
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, out)
	}
	if err != nil || res.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %d %s %v", path, res.StatusCode, body, err)
	}
}

// page signs in as a role and returns the page.
func (c *console) page(t *testing.T, role string) *browser.Page {
	t.Helper()
	p := browser.New(t)
	p.Open(c.url + "/")
	p.Fill(browser.Role("textbox", "API token"), c.tokens[role])
	p.Click(browser.Role("button", "Sign in"))
	p.Await(browser.Role("heading", "Overview"))
	return p
}

// shows waits until an element of a page, which may be live, has a text.
func shows(t *testing.T, p *browser.Page, sel browser.Selector, want string) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := p.Text(sel); got != want {
			return fmt.Errorf("%s shows %q, want %q", sel, got, want)
		}
		return nil
	})
}

// await waits longer for an element than a page itself does: for what the system takes its time for.
func await(t *testing.T, p *browser.Page, sel browser.Selector) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func(context.Context) error {
		if p.Count(sel) == 0 {
			return fmt.Errorf("there is no %s; the page shows %s", sel, p.Text("main"))
		}
		return nil
	})
}
