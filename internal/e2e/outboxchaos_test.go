package e2e_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/testenv"
)

const (
	outboxWriters = 16
	outboxRecords = 40
	outboxFor     = 25 * time.Second
)

// 16 writers change records in transactions of which many are rolled back, while relays are killed at random. A trigger of the
// source table notes every change. Each committed change is published, none that was rolled back, and the versions of a record
// follow its commits; so does their order in the topic.
func TestOutboxWhileRelaysAreKilled(t *testing.T) {
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, nil, map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	db := w.source()
	w.env = append(w.env, "FRESHET_RELAY__LEASE=1s")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, stmt := range []string{
		"CREATE TABLE goods (id VARCHAR(20) NOT NULL PRIMARY KEY, n BIGINT NOT NULL) ENGINE = InnoDB",
		"CREATE TABLE goods_history (at BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, id VARCHAR(20) NOT NULL, n BIGINT NOT NULL) ENGINE = InnoDB",
		"CREATE TRIGGER goods_changed AFTER UPDATE ON goods FOR EACH ROW INSERT INTO goods_history (id, n) VALUES (NEW.id, NEW.n)",
	} {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	for i := range outboxRecords {
		if _, err := db.ExecContext(t.Context(), "INSERT INTO goods VALUES (?, 0)", "g"+strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), outboxFor)
	defer cancel()
	var rolledBack atomic.Int64
	var wg sync.WaitGroup
	for i := range outboxWriters {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for ctx.Err() == nil {
				committed, err := changeGoods(t.Context(), db, random)
				if err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
				if !committed {
					rolledBack.Add(1)
				}
			}
		})
	}
	kills := killRelays(ctx, w, rand.New(rand.NewPCG(seed, outboxWriters)))
	wg.Wait()
	want := goodsHistory(t, db)
	total := 0
	for _, h := range want {
		total += len(h)
	}
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		var left int
		err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM freshet_outbox WHERE dataset <> ''").Scan(&left)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d rows are left in the outbox", left)
		}
		return err
	})
	events := published(t, w.kafka, topic, total)
	t.Logf("%d relays were killed, %d changes committed, %d rolled back, %d events", kills, total, rolledBack.Load(), len(events))
	if kills < 5 || total < 1000 || rolledBack.Load() < 100 {
		t.Fatal("too little happened")
	}
	checkGoods(t, want, events)
}

// changeGoods changes a random record, and enqueues its state, in one transaction.
func changeGoods(ctx context.Context, db *sql.DB, random *rand.Rand) (committed bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	id := "g" + strconv.Itoa(random.IntN(outboxRecords))
	if _, err := tx.ExecContext(ctx, "UPDATE goods SET n = n + 1 WHERE id = ?", id); err != nil {
		return false, err
	}
	var n int64
	if err := tx.QueryRowContext(ctx, "SELECT n FROM goods WHERE id = ?", id).Scan(&n); err != nil {
		return false, err
	}
	linger(ctx, random)
	data, _ := json.Marshal(item{ID: id, N: n, Body: "b"})
	if _, err := tx.ExecContext(ctx, "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', ?, 'upsert', ?)", id, string(data)); err != nil {
		return false, err
	}
	linger(ctx, random)
	if random.IntN(4) == 0 {
		return false, tx.Rollback()
	}
	return true, tx.Commit()
}

// linger keeps a transaction open for a while, now and then for long.
func linger(ctx context.Context, random *rand.Rand) {
	d := time.Duration(random.IntN(10)) * time.Millisecond
	if random.IntN(50) == 0 {
		d = time.Duration(random.IntN(400)) * time.Millisecond
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// killRelays keeps three relays running, and kills one of them again and again until ctx ends.
func killRelays(ctx context.Context, w *world, random *rand.Rand) (kills int) {
	var relays []*testenv.Process
	for i := range 3 {
		relays = append(relays, w.startRelay(fmt.Sprintf("r%d", i)))
	}
	for {
		timer := time.NewTimer(time.Duration(500+random.IntN(2000)) * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return kills
		case <-timer.C:
		}
		i := random.IntN(len(relays))
		relays[i].Kill(w.t)
		kills++
		relays[i] = w.startRelay(fmt.Sprintf("r%d", 2+kills))
	}
}

// goodsHistory returns what the trigger noted, by record.
func goodsHistory(t *testing.T, db *sql.DB) map[string][]int64 {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT id, n FROM goods_history ORDER BY at")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string][]int64{}
	for rows.Next() {
		var id string
		var n int64
		if err := rows.Scan(&id, &n); err != nil {
			t.Fatal(err)
		}
		all[id] = append(all[id], n)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// goodsEvent is an event of a record.
type goodsEvent struct {
	key, id    string
	version, n int64
}

// published reads a topic until it has the given number of different events, and whatever more is there then.
func published(t *testing.T, ks *testenv.KafkaServer, topic string, want int) []goodsEvent {
	t.Helper()
	c := ks.Client(t, kgo.ConsumeTopics(topic))
	var all []goodsEvent
	ids := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), settleLimit)
	defer cancel()
	for {
		quiet := time.Minute
		if len(ids) >= want {
			quiet = 2 * time.Second // one that is not in the history would come
		}
		part, stop := context.WithTimeout(ctx, quiet)
		f := c.PollFetches(part)
		over := part.Err() != nil
		stop()
		f.EachRecord(func(r *kgo.Record) {
			e := goodsEvent{key: string(r.Key)}
			for _, h := range r.Headers {
				switch h.Key {
				case "ce_id":
					e.id = string(h.Value)
				case "ce_sequence":
					e.version, _ = strconv.ParseInt(string(h.Value), 10, 64)
				}
			}
			var it item
			if err := json.Unmarshal(r.Value, &it); err != nil {
				t.Errorf("event %s: %v", e.id, err)
			}
			e.n = it.N
			ids[e.id] = true
			all = append(all, e)
		})
		if over {
			if len(ids) < want {
				t.Errorf("%d different events of %d committed changes", len(ids), want)
			}
			return all
		}
	}
}

// checkGoods compares the events of each record, in the order of their versions, with its history.
func checkGoods(t *testing.T, want map[string][]int64, events []goodsEvent) {
	t.Helper()
	byRecord := map[string]map[int64]goodsEvent{}
	newest := map[string]int64{}
	for _, e := range events {
		if byRecord[e.key] == nil {
			byRecord[e.key] = map[int64]goodsEvent{}
		}
		before, repeated := byRecord[e.key][e.version]
		if repeated && before != e {
			t.Errorf("two events of one version: %+v, %+v", before, e)
		}
		if !repeated && e.version < newest[e.key] {
			t.Errorf("%s: version %d is in the topic after %d", e.key, e.version, newest[e.key])
		}
		byRecord[e.key][e.version] = e
		newest[e.key] = max(newest[e.key], e.version)
	}
	for key, history := range want {
		var got []int64
		for _, v := range slices.Sorted(maps.Keys(byRecord[key])) {
			got = append(got, byRecord[key][v].n)
		}
		if !slices.Equal(got, history) {
			t.Errorf("%s: events in the order of versions have %d, the history is %d", key, got, history)
		}
	}
	if len(byRecord) != len(want) {
		t.Error(errors.New("records that have no history were published"))
	}
}
