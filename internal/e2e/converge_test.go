package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

const (
	records = 5_000
	events  = 100_000
	perSec  = 5_000 // so that the traffic lasts while things are broken
)

// state is what the model knows of one record: the newest version that was published, and whether it is a deletion.
type state struct {
	version int64
	deleted bool
	body    string
}

// traffic makes events and folds them: upserts, deletions, re-creations, repetitions, and old versions that come late.
type traffic struct {
	rng   *rand.Rand
	keys  int // records
	model map[string]state
	past  []schemas.Event // a sample of what was published, to be repeated
	next  int64
}

func (tr *traffic) event() schemas.Event {
	if len(tr.past) > 100 && tr.rng.IntN(10) == 0 {
		return tr.past[tr.rng.IntN(len(tr.past))] // a repetition, mostly of an old version
	}
	key := fmt.Sprintf("k%04d", tr.rng.IntN(tr.keys))
	tr.next++
	st := tr.model[key]
	// Versions leave gaps, and now and then an event below the newest comes late with another body.
	v := st.version + 1 + tr.rng.Int64N(3)
	late := st.version > 3 && tr.rng.IntN(20) == 0
	if late {
		v = st.version - 1
	}
	ev := schemas.Event{Dataset: "items", Key: key, Op: schemas.Upsert, Version: v}
	body := fmt.Sprintf("%d %s", tr.next, strings.Repeat("x", 60+tr.rng.IntN(120)))
	if tr.rng.IntN(10) == 0 {
		ev.Op, body = schemas.Delete, ""
	} else {
		ev.Data, _ = json.Marshal(item{ID: key, N: v, Body: body})
	}
	if !late {
		tr.model[key] = state{version: v, deleted: ev.Op == schemas.Delete, body: body}
	}
	if tr.rng.IntN(20) == 0 {
		tr.past = append(tr.past, ev)
	}
	return ev
}

func TestEveryCopyConverges(t *testing.T) {
	rs := testenv.StartRedis(t, testenv.RedisOptions{})
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, rs, map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	w.watchVersions("items", "id")

	workers := []*testenv.Process{w.startWorker(), w.startWorker()}
	nodes := []*node{w.node("n1"), w.node("n2"), w.node("n3")}
	stopReading := readAll(t, nodes, records, 4_000, false)

	p := w.producer()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	tr := &traffic{rng: rand.New(rand.NewPCG(seed, 1)), keys: records, model: map[string]state{}}
	limit := rate.NewLimiter(perSec, 500)
	var acked atomic.Int64
	var mu sync.Mutex
	var token schemas.Token
	for i := range events {
		if err := limit.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := p.PublishAsync(t.Context(), tr.event(), func(tok schemas.Token, err error) {
			if err != nil {
				t.Errorf("publish: %v", err)
				return
			}
			acked.Add(1)
			mu.Lock()
			token = token.Merge(tok)
			mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case events * 2 / 10:
			workers[0].Kill(t)
			workers[0] = w.startWorker()
		case events * 5 / 10:
			rs.RestartEmpty(t)
		case events * 7 / 10:
			workers[1].Kill(t)
			workers[1] = w.startWorker()
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := acked.Load(); got != events {
		t.Fatalf("acknowledged %d of %d", got, events)
	}
	t.Logf("published %d events over %d records", events, len(tr.model))

	testenv.Eventually(t, settleLimit, func(ctx context.Context) error { return w.replicaEquals(ctx, tr.model) })
	if back, all := w.versionsWentBack(); back != 0 || all == 0 {
		t.Errorf("%d of %d steps in the rows' histories went back", back, all)
	}
	for _, n := range nodes {
		w.seen(n.Node, token)
	}
	reads, hits := stopReading()
	t.Logf("%d reads, %d served from memory", reads, hits)
	w.cachesEqual(t, nodes, tr.model)
	if letters := w.count("freshet_dead_letter"); letters != 0 {
		t.Errorf("%d dead letters of good events", letters)
	}
}

// readAll lets every node read records all the time, each that often, so that there is something to become stale. Loads may
// fail where the database is away at times. stop ends it.
func readAll(t *testing.T, nodes []*node, keys int, perSec rate.Limit, mayFail bool) (stop func() (reads, hits int64)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var reads atomic.Int64
	for i, n := range nodes {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			limit := rate.NewLimiter(perSec, 100)
			for limit.Wait(ctx) == nil {
				key := fmt.Sprintf("k%04d", int(float64(keys)*rng.Float64()*rng.Float64()))
				v, err := n.items.Get(ctx, key)
				switch {
				case ctx.Err() != nil, errors.Is(err, invalidation.ErrNotFound), err != nil && mayFail:
				case err != nil:
					t.Errorf("get: %v", err)
					return
				case v.ID != key:
					t.Errorf("asked for %s, got %s", key, v.ID)
				}
				reads.Add(1)
			}
		})
	}
	end := func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(end) // before the nodes are closed
	return func() (int64, int64) {
		end()
		var hits int64
		for _, n := range nodes {
			hits += n.items.Stats().LocalHits
		}
		return reads.Load(), hits
	}
}

// replicaEquals compares every row with the model.
func (w *world) replicaEquals(ctx context.Context, model map[string]state) error {
	rows, err := w.db.QueryContext(ctx, "SELECT id, n, body, _version, _deleted FROM items")
	if err != nil {
		return err
	}
	defer rows.Close()
	seen, wrong := 0, 0
	first := ""
	for rows.Next() {
		var id string
		var n *int64
		var body *string
		var version int64
		var deleted bool
		if err := rows.Scan(&id, &n, &body, &version, &deleted); err != nil {
			return err
		}
		seen++
		want, ok := model[id]
		good := ok && version == want.version && deleted == want.deleted
		if good && !deleted {
			good = n != nil && *n == version && body != nil && *body == want.body
		}
		if good && deleted {
			good = n == nil && body == nil
		}
		if !good {
			if wrong++; first == "" {
				first = fmt.Sprintf("row %s has version %d, deleted %v; want %d, %v", id, version, deleted, want.version, want.deleted)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if wrong > 0 || seen != len(model) {
		return fmt.Errorf("%d rows of %d, %d differ: %s", seen, len(model), wrong, first)
	}
	return nil
}

// cachesEqual asks every node's memory and the shared tier for every record: equal to the replica, or absent.
func (w *world) cachesEqual(t *testing.T, nodes []*node, model map[string]state) {
	t.Helper()
	d, _ := w.datasets.Get("items")
	keys := lane.KeysOf(w.ns, 0)
	local, shared := 0, 0
	for key, want := range model {
		for i, n := range nodes {
			e, ok := n.items.Peek(key)
			if !ok {
				continue
			}
			local++
			if e.Version != want.version || e.Found == want.deleted || e.Found && (e.Value.N != want.version || e.Value.Body != want.body) {
				t.Errorf("node %d holds %s at version %d (found %v); the row has %d (deleted %v)", i, key, e.Version, e.Found, want.version, want.deleted)
			}
		}
		name, err := d.CacheKey(key)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := nodes[0].rdb.Get(t.Context(), keys.Value(name)).Bytes()
		if err != nil {
			continue // absent
		}
		v, ok := lane.ParseValue(raw)
		if !ok {
			continue // a lease
		}
		root, err := nodes[0].rdb.HGet(t.Context(), keys.Meta, "root").Result()
		if err != nil {
			t.Fatal(err)
		}
		if v.Root != root {
			continue // of an older root: no reader takes it
		}
		shared++
		if v.Version != want.version {
			t.Errorf("the shared entry of %s has version %d; the row has %d", key, v.Version, want.version)
		}
	}
	t.Logf("compared %d local and %d shared entries", local, shared)
	if local == 0 || shared == 0 {
		t.Errorf("nothing was cached: the comparison shows nothing")
	}
}

func (w *world) count(table string) int {
	w.t.Helper()
	var n int
	if err := w.db.QueryRowContext(w.t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}
