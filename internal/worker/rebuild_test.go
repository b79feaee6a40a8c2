package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// rebuild runs a replay that rebuilds items until it is over, beside the worker w. edit, if not nil, changes what the
// replay uses; at is called at its points.
func (b *bed) rebuild(w *running, edit func(*jobs.Config), at func(job, point string)) (jobstore.Job, *jobstore.Rebuild) {
	b.t.Helper()
	db, err := replica.Open(b.t.Context(), replica.Config{MySQL: mysql.Config{DSN: b.dsn, LockWait: time.Second}, SessionTimeout: session})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = db.Close() })
	if broken, err := db.Prepare(b.t.Context(), b.datasets.All()); err != nil || len(broken) > 0 {
		b.t.Fatal(err, broken)
	}
	spec := jobstore.Spec{Dataset: "items", Action: jobstore.ActionRebuild, Reason: "a test", AcceptLoss: !b.losesNothing, DryRun: b.dryRun}
	part := jobstore.Part{Source: b.source("items"), End: b.end("items")}
	id, _, err := db.Jobs.Add(b.t.Context(), jobstore.Job{Spec: spec, Actor: "test", Parts: []jobstore.Part{part}}, "")
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := jobs.Config{
		Owner: "replayer", Namespace: b.ns, Datasets: b.datasets, Kafka: b.client, Replica: db, Lanes: w,
		LookInterval: 50 * time.Millisecond, Lease: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(testLog{b.t}, nil)),
	}
	if edit != nil {
		edit(&cfg)
	}
	if at != nil {
		cfg.Failpoint = func(point string) { at(id, point) }
	}
	r, err := jobs.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	defer running.Wait()
	defer cancel()
	var j jobstore.Job
	testenv.Eventually(b.t, patience, func(ctx context.Context) (err error) {
		if j, err = db.Jobs.Get(ctx, id); err == nil && j.State.Live() {
			err = fmt.Errorf("rebuild is %s: %+v", j.State, j.Parts)
		}
		return err
	})
	return j, jobstore.NewRebuild(b.dataset("items"), id)
}

// While the tables are swapped a live batch waits, and then goes to the new one. From there on the rebuild cannot be
// cancelled.
func TestSwapHoldsLiveBatches(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 30)
	b.awaitDone("items")
	b.exec("UPDATE items SET _version = 99, n = 99 WHERE id = 'k1'")
	gone, root := b.hold("items", "k1", 99), b.root()
	var held, cancelled error
	done, tables := b.rebuild(w, nil, func(job, point string) {
		switch point {
		case jobs.PointRebuildHeld:
			b.put("items", "late", 1)
			held = b.blocked()
		case jobs.PointRebuildSwapped:
			cancelled = w.replica.Jobs.Set(context.Background(), job, jobstore.Running, jobstore.Cancelled)
		}
	})
	if done.State != jobstore.Done {
		t.Fatalf("rebuild: %s %q", done.State, done.Problem)
	}
	if held != nil {
		t.Errorf("no live batch waited for the swap: %v", held)
	}
	if !errors.Is(cancelled, jobstore.ErrMoved) {
		t.Errorf("a rebuild was cancelled after its swap: %v", cancelled)
	}
	b.awaitRow("items", "late", 1)
	b.awaitRow("items", "k1", 1)
	if n := b.count("`" + tables.Old + "` WHERE id = 'late'"); n != 0 {
		t.Error("a live batch went to the previous table")
	}
	if b.root() == root && !gone() {
		t.Error("what was cached of the previous table still counts")
	}
	b.awaitDone("items")
}

// blocked waits until a batch waits for a lock. The server renews its list only when no one has read it for 100 ms.
func (b *bed) blocked() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		var n int
		err := b.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"+
			" AND trx_mysql_thread_id IN (SELECT id FROM information_schema.processlist WHERE db = DATABASE())").Scan(&n)
		if err != nil || n > 0 {
			return err
		}
	}
}

// cutOff is a database whose answer to a swap is lost, and whose locks are too: a live batch goes to the previous table in
// the last moment.
type cutOff struct {
	db   *replica.DB
	b    *bed
	once sync.Once
}

func (c *cutOff) Swap(ctx context.Context, tables *jobstore.Rebuild, topicID, _ string, _ time.Duration, catchUp func(context.Context, map[string]int64) error) error {
	next, err := c.db.Positions.OfTopic(ctx, tables.Dataset.Topic, topicID)
	if err != nil {
		return err
	}
	if err := catchUp(ctx, next); err != nil {
		return err
	}
	c.once.Do(func() {
		c.b.put("items", "late", 1)
		c.b.awaitRow("items", "late", 1)
		c.b.exec("RENAME TABLE items TO `" + tables.Old + "`, `" + tables.Shadow.Replica.Table + "` TO items")
	})
	return errors.New("connection is lost")
}

func TestWriteToTheFormerTableIsNotLost(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 30)
	b.awaitDone("items")
	done, tables := b.rebuild(w, func(c *jobs.Config) { c.Swapper = &cutOff{db: c.Replica, b: b} }, nil)
	if done.State != jobstore.Done {
		t.Fatalf("rebuild: %s %q", done.State, done.Problem)
	}
	if old, now := b.count("`"+tables.Old+"` WHERE id = 'late'"), b.count("items WHERE id = 'late'"); old != 1 || now != 1 {
		t.Errorf("the previous table has %d of the late rows, the new one %d; want 1 and 1", old, now)
	}
	if n := b.count("items"); n != 31 {
		t.Errorf("%d rows, want 31", n)
	}
}

// What the topic has and no table takes is kept as a letter, and what only a redriven letter has is in the new table.
func TestRebuildAndDeadLetters(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 5)
	b.poison("items", "k1")
	b.awaitDone("items")
	if n := b.count("freshet_dead_letter WHERE state = 'open'"); n != 1 {
		t.Fatalf("%d letters, want 1", n)
	}
	b.exec("DELETE FROM freshet_dead_letter")
	d := b.dataset("items")
	rec, err := d.Encode(&schemas.Event{ID: "e", Source: "//test", Dataset: "items", Key: "ghost", Op: schemas.Upsert, Version: 3, Data: []byte(`{"id":"ghost","n":3}`)})
	if err != nil {
		t.Fatal(err)
	}
	b.exec("INSERT INTO freshet_dead_letter (source, off, idx, dataset, record_key, version, op, reason, detail, kafka_key, headers, data, size, broker_at, state, created_at, updated_at)"+
		" VALUES (?, 1, 0, 'items', 'ghost', 3, ?, 'refused', '', ?, ?, ?, 1, 1, 'redriven', 1, 1), (?, 2, 0, 'items', 'k2', 1, ?, 'refused', '', NULL, NULL, NULL, 1, 1, 'open', 1, 1)",
		"gone/x/0", int64(schemas.Upsert), rec.Key, replica.EncodeHeaders(rec.Headers), rec.Value, "gone/x/0", int64(schemas.Upsert))
	done, _ := b.rebuild(w, nil, nil)
	if done.State != jobstore.Done || done.Parts[0].Invalid != 1 {
		t.Fatalf("rebuild: %s %q, %+v", done.State, done.Problem, done.Parts)
	}
	b.awaitRow("items", "ghost", 3)
	if n := b.count("freshet_dead_letter WHERE state = 'open' AND record_key = 'k1'") + b.count("freshet_dead_letter WHERE state = 'open' AND record_key IS NULL"); n != 1 {
		t.Errorf("%d letters of the event that no table takes, want 1", n)
	}
	if n := b.count("freshet_dead_letter WHERE state = 'superseded' AND record_key = 'k2'"); n != 1 {
		t.Error("a letter that the rebuild overtook is open")
	}
}

// A table that does not fit its dataset any more is not copied: the declaration makes the new one.
func TestRebuildMendsTheTableItself(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 5)
	b.awaitDone("items")
	done, _ := b.rebuild(w, func(*jobs.Config) {
		b.exec("ALTER TABLE items MODIFY COLUMN n VARCHAR(10) NULL")
	}, nil)
	if done.State != jobstore.Done {
		t.Fatalf("rebuild: %s %q", done.State, done.Problem)
	}
	if n := b.count("information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'items' AND column_name = 'n' AND data_type = 'bigint'"); n != 1 {
		t.Error("the column n still has the wrong type")
	}
	if n := b.count("items WHERE n = 1"); n != 5 {
		t.Errorf("%d rows, want 5", n)
	}
}

// topicFake is a topic as CheckRebuild asks for it.
type topicFake struct {
	id    string
	first int64
	parts int32
}

func (f topicFake) Topic(_ context.Context, name string) (kafkalog.TopicInfo, error) {
	return kafkalog.TopicInfo{Name: name, ID: f.id, Partitions: f.parts}, nil
}

func (f topicFake) Offsets(context.Context, string) (map[int32]kafkalog.Offsets, error) {
	return map[int32]kafkalog.Offsets{0: {First: f.first, LastStable: 100, HighWater: 100}}, nil
}

// tableFake is what is noted of the topic.
type tableFake struct{ noted replica.Topic }

func (f tableFake) Check(context.Context, *schemas.Dataset) error { return nil }

func (f tableFake) Get(context.Context, string) (replica.Topic, bool, error) {
	return f.noted, f.noted.ID != "", nil
}

func TestCheckRebuild(t *testing.T) {
	byEvent := &schemas.Dataset{Name: "d", Topic: "t"}
	byOffset := &schemas.Dataset{Name: "d", Topic: "t", Version: schemas.VersionRule{Kind: schemas.VersionOffset}}
	whole, noted := topicFake{id: "a", parts: 1}, tableFake{replica.Topic{ID: "a", Partitions: 1}}
	for name, c := range map[string]struct {
		d     *schemas.Dataset
		topic topicFake
		table tableFake
		want  string // in the refusal; "" is none
	}{
		"whole":             {byEvent, whole, noted, ""},
		"never observed":    {byEvent, whole, tableFake{}, ""},
		"trimmed":           {byEvent, topicFake{id: "a", parts: 1, first: 7}, noted, "begins at offset 7"},
		"compacted":         {byEvent, topicFake{id: "a", parts: 1, first: 7}, noted, "begins at offset 7"},
		"recreated":         {byEvent, whole, tableFake{replica.Topic{ID: "a", Partitions: 1, Epoch: 1}}, "recreated"},
		"recreated, unseen": {byEvent, topicFake{id: "b", parts: 1}, noted, "recreated"},
		"more partitions":   {byEvent, topicFake{id: "a", parts: 2}, noted, ""},
		"positions moved":   {byOffset, topicFake{id: "a", parts: 2}, noted, "versions are positions"},
		"positions":         {byOffset, whole, noted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := jobs.CheckRebuild(t.Context(), c.d, c.topic, c.table, c.table)
			var refused *tables.DatasetError
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (!errors.As(err, &refused) || !strings.Contains(refused.Problem, c.want)):
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}
