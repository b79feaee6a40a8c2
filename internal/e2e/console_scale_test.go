package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
)

// scaleVar makes TestConsoleScale run with 10,000 dead letters, 1,000 nodes and 500 partitions and print how long each screen takes; else it is a
// tenth of that, and times are not looked at.
const scaleVar = "FRESHET_TEST_CONSOLE_SCALE"

// The console shows many dead letters, nodes and partitions, a page at a time, and pages that are open for long take no more memory.
func TestConsoleScale(t *testing.T) {
	letters, nodes, partitions, requests, streams, refreshes := 1000, 100, 50, 3, 5, 10
	full := os.Getenv(scaleVar) != ""
	if full {
		letters, nodes, partitions, requests, streams, refreshes = 10_000, 1000, 500, 100, 10, 20
	}
	topics := map[string]string{"products": testenv.Kafka(t).CreateTopic(t, int32(partitions))}
	c := newConsole(t, topics)
	c.manyLetters(letters)
	client := c.signedIn("admin")
	crowded := false
	for _, s := range append(c.scaleScreens(), consoleScreen{name: "lag, last page", path: fmt.Sprintf("/lag?from=%d", max(0, partitions-50))}) {
		if !asksNodes(s) && !crowded { // the nodes that are made here do not answer questions

			c.manyNodes(nodes)
			crowded = true
		}
		var took []time.Duration
		for range requests {
			began := time.Now()
			fetchPage(t, client, c.url+s.path, "text/html", io.Discard)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		if full {
			t.Logf("%-16s p50 %6.1f ms  p99 %6.1f ms", s.name, took[len(took)/2].Seconds()*1000, took[len(took)*99/100].Seconds()*1000)
		}
	}
	if full {
		p := c.page(t, "admin")
		for _, s := range c.screens() {
			if asksNodes(s) {
				continue
			}
			p.Open(c.url + s.path)
			t.Logf("%-16s first paint %v", s.name, p.FirstPaint())
		}
	}
	c.watchLong(client, streams, refreshes)
}

// manyLetters makes copies of an open dead letter.
func (c *console) manyLetters(n int) {
	c.t.Helper()
	c.exec(`INSERT INTO freshet_dead_letter (source, off, idx, dataset, record_key, version, op, event_id, reason, errno, detail, kafka_key, headers, data, size, broker_at, state, attempts, created_at, updated_at)
		WITH RECURSIVE seq AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM seq WHERE n < 1000), big AS (SELECT a.n + 1000 * (b.n - 1) AS n FROM seq a, seq b WHERE b.n <= ?)
		SELECT source, off + 1000000 + n, idx, dataset, CONCAT(record_key, '-', n), version, op, event_id, reason, errno, CONCAT(detail, ' ', n % 20), kafka_key, headers, data, size, broker_at, state, attempts, created_at, updated_at
		FROM freshet_dead_letter, big WHERE record_key = 'sofa-1'`, n/1000)
}

// manyNodes keeps copies of a node's state in Redis until the test ends.
func (c *console) manyNodes(n int) {
	c.t.Helper()
	rdb := c.redis.Client(c.t)
	states, err := invalidation.Nodes(c.t.Context(), rdb, c.ns)
	if err != nil || len(states) == 0 {
		c.t.Fatalf("%d nodes: %v", len(states), err)
	}
	keys := "{fr:" + c.ns + ":nodes}:"
	write := func(ctx context.Context) error {
		pipe := rdb.Pipeline()
		for i := range n {
			st := states[0]
			st.ID, st.Written = fmt.Sprintf("many-%04d", i), time.Now()
			text, err := json.Marshal(st)
			if err != nil {
				return err
			}
			pipe.SAdd(ctx, keys+"ids", st.ID)
			pipe.Set(ctx, keys+"n:"+st.ID, text, invalidation.PresenceTTL)
		}
		_, err := pipe.Exec(ctx)
		return err
	}
	if err := write(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	var wait sync.WaitGroup
	ctx, stop := context.WithCancel(context.WithoutCancel(c.t.Context()))
	wait.Go(func() {
		tick := time.NewTicker(invalidation.PresenceInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := write(ctx); err != nil && ctx.Err() == nil {
				c.t.Error(err)
			}
		}
	})
	c.t.Cleanup(func() { stop(); wait.Wait() })
}

// signedIn is a client with the session of a role.
func (c *console) signedIn(role string) *http.Client {
	c.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	resp, err := client.PostForm(c.url+"/sign-in", url.Values{"token": {c.tokens[role]}})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("sign in: %s, %v", resp.Status, err)
	}
	return client
}

// fetchPage reads a page.
func fetchPage(t *testing.T, client *http.Client, address, accept string, into io.Writer) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(into, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, resp.Status, err)
	}
}

// watchLong holds overviews open for a while, and compares the server's memory in the middle with that at the end.
func (c *console) watchLong(client *http.Client, streams, refreshes int) {
	c.t.Helper()
	got := make(chan struct{}, 1024)
	ctx, stop := context.WithCancel(c.t.Context())
	defer stop()
	var wait sync.WaitGroup
	for range streams {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		resp, err := client.Do(r)
		if err != nil {
			c.t.Fatal(err)
		}
		wait.Go(func() {
			defer resp.Body.Close()
			sc := bufio.NewScanner(resp.Body)
			for sc.Buffer(nil, 4<<20); sc.Scan(); {
				if strings.HasPrefix(sc.Text(), "event: content") {
					got <- struct{}{}
				}
			}
		})
	}
	for range streams * refreshes / 2 {
		testenv.Await(c.t, got)
	}
	middle := rss(c.t, c.admin)
	for range streams * refreshes / 2 {
		testenv.Await(c.t, got)
	}
	end := rss(c.t, c.admin)
	stop()
	wait.Wait()
	const slack = 24 << 20
	if end > middle+slack {
		c.t.Errorf("%d open overviews: the server grew from %d to %d MiB between refresh %d and %d", streams, middle>>20, end>>20, refreshes/2, refreshes)
	}
	c.t.Logf("%d overviews, %d refreshes: %d, then %d MiB", streams, refreshes, middle>>20, end>>20)
}

// asksNodes reports whether a page asks every node for its copy.
func asksNodes(s consoleScreen) bool { return s.name == "record" || s.name == "deadletter" }

// scaleScreens are all screens, those that ask nodes first.
func (c *console) scaleScreens() []consoleScreen {
	all := c.screens()
	slices.SortStableFunc(all, func(a, b consoleScreen) int {
		switch {
		case asksNodes(a) == asksNodes(b):
			return 0
		case asksNodes(a):
			return -1
		}
		return 1
	})
	return all
}
