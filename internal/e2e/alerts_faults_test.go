package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// traffic changes records, by an event and by an outbox row, and reads one.
func (w *watched) traffic() {
	w.t.Helper()
	w.version++
	publish(w.t, w.pub, upsert("items", "a", w.version, "x"))
	w.sourceExec(`INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'o', 'upsert', '{"id":"o","n":1,"body":"b"}')`)
	testenv.Eventually(w.t, settleLimit, func(ctx context.Context) error {
		v, err := w.read(ctx, "a")
		if err == nil && v.N < w.version {
			err = fmt.Errorf("reads version %d, want %d", v.N, w.version)
		}
		return err
	})
}

func (w *watched) sourceExec(stmt string) {
	w.t.Helper()
	if _, err := w.src.ExecContext(w.t.Context(), stmt); err != nil {
		w.t.Fatalf("%s: %v", stmt, err)
	}
}

// plantStale puts an older version of a record into the shared tier by hand.
func (w *watched) plantStale() {
	w.t.Helper()
	w.seen(w.node1, publish(w.t, w.pub, upsert("items", "stale", 2, "x"))) // what the emission would delete comes after it
	w.plantEntry(w.redis.Client(w.t), 1, "item:stale", 1, `{"id":"stale"}`)
}

// badRows writes outbox rows that no relay can publish, and that this relay does not know.
func (w *watched) badRows() {
	w.t.Helper()
	w.sourceExec(`INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'a', 'upsert', NULL)`)
	w.sourceExec(`INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('unknown', 'a', 'upsert', '{}')`)
}

// badEvents publishes another state under the version of a row, and an invalidation that cannot be read.
func (w *watched) badEvents() {
	w.t.Helper()
	publish(w.t, w.pub, upsert("items", "a", w.version, "y"))
	rec := &kgo.Record{Topic: schemas.InvalidationTopic(w.ns), Value: []byte("no event")}
	if err := w.kafka.Client(w.t).ProduceSync(w.t.Context(), rec).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// openTransaction begins one in the topic, with an event that no one may read before end aborts it.
func (w *watched) openTransaction() (end func()) {
	w.t.Helper()
	d, _ := w.datasets.Get("items")
	c := w.kafka.Client(w.t, kgo.TransactionalID(w.ns), kgo.TransactionTimeout(2*alertLimit))
	if err := c.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	if err := c.ProduceSync(w.t.Context(), &kgo.Record{Topic: d.Topic, Key: []byte("a"), Value: []byte("no event")}).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		w.t.Helper()
		if err := c.EndTransaction(w.t.Context(), kgo.TryAbort); err != nil {
			w.t.Fatal(err)
		}
	}
}

// guessTokens asks the admin API with tokens that it does not know.
func (w *watched) guessTokens() {
	w.t.Helper()
	for i := range 100 {
		req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.adminAddr+"/v1/lag", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Authorization", fmt.Sprintf("Bearer guess%d", i))
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			w.t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusTooManyRequests {
			w.t.Fatalf("a guessed token: %s", res.Status)
		}
	}
}

// writeTokens replaces the file of tokens at once.
func (w *watched) writeTokens(text string) {
	w.t.Helper()
	next := filepath.Join(filepath.Dir(w.tokensFile), "next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(next, w.tokensFile); err != nil {
		w.t.Fatal(err)
	}
}

// poisonRecords are a storm.
const poisonRecords = 240

// poison writes records that are no events.
func (w *watched) poison() {
	w.t.Helper()
	d, _ := w.datasets.Get("items")
	recs := make([]*kgo.Record, poisonRecords)
	for i := range recs {
		recs[i] = &kgo.Record{Topic: d.Topic, Key: fmt.Append(nil, "a"), Value: []byte("no event")}
	}
	if err := w.kafka.Client(w.t).ProduceSync(w.t.Context(), recs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) healPoison() {
	w.t.Helper()
	w.mustRun("datasets", "resume", "items", "--client-url", w.adminAddr)
	w.reaches(poisonRecords, "SELECT COUNT(*) FROM freshet_dead_letter WHERE dataset = 'items'")
	w.mustRun("deadletters", "discard", "--all", "--apply", "--client-url", w.adminAddr)
}

// manyEvents publishes as many as a burn rate needs.
func (w *watched) manyEvents() {
	w.t.Helper()
	var all []schemas.Event
	for i := range 150 {
		all = append(all, upsert("items", fmt.Sprint("many", i), 1, "x"))
	}
	publish(w.t, w.pub, all...)
}

// loseLane removes what shows how far the lane is, as a Redis that lost its newest writes.
func (w *watched) loseLane() {
	w.t.Helper()
	if err := w.redis.Client(w.t).Del(w.t.Context(), lane.KeysOf(w.ns, 0).Meta).Err(); err != nil {
		w.t.Fatal(err)
	}
}
