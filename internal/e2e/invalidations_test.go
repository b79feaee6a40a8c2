package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// tagged is a node that can invalidate, and whose entries have the tag "all".
func (w *world) tagged(pub invalidation.Publisher) *node {
	w.t.Helper()
	rdb := w.redis.Client(w.t)
	n, err := invalidation.Join(w.t.Context(), rdb, invalidation.Config{Namespace: w.ns, Datasets: w.datasets, ID: "tagged", Publisher: pub})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { n.Close() })
	load := func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[item], error) {
		l, err := w.load(ctx, key, from)
		l.Tags = []string{"all"}
		return l, err
	}
	c, err := invalidation.NewCache(n, invalidation.CacheConfig[item]{Dataset: "items", Load: load})
	if err != nil {
		w.t.Fatal(err)
	}
	return &node{Node: n, items: c}
}

// shows waits until the node caches the body.
func (n *node) shows(t *testing.T, key, body string) {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		v, err := n.items.Get(ctx, key)
		if err == nil && v.Body != body {
			err = fmt.Errorf("body %q, want %q", v.Body, body)
		}
		if _, ok := n.items.Peek(key); err == nil && !ok {
			err = errors.New("not cached yet")
		}
		return err
	})
}

func TestOtherWritersInvalidate(t *testing.T) {
	rs := testenv.StartRedis(t, testenv.RedisOptions{})
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, rs, map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	p := w.producer()
	w.startWorker()
	w.startWorker()
	n := w.tagged(p)
	publish(t, p, upsert("items", "a", 1, "one"))
	n.shows(t, "a", "one")

	// Rubbish on the topic stops nothing.
	kc := w.kafka.Client(t)
	for _, value := range []string{"", "{", `{"names":[1]}`} {
		rec := &kgo.Record{Topic: schemas.InvalidationTopic(w.ns), Key: []byte("x"), Value: []byte(value)}
		if err := kc.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	// The row changes behind Freshet's back, so only the invalidation can tell.
	change := func(body string) { w.exec("UPDATE items SET body = ? WHERE id = 'a'", body) }
	wait := func(tok schemas.Token, err error) {
		t.Helper()
		if err != nil || tok.IsZero() {
			t.Fatalf("token %v, %v", tok.Offsets(), err)
		}
		w.seen(n.Node, tok)
	}
	change("two")
	if v, _ := n.items.Get(t.Context(), "a"); v.Body != "one" {
		t.Fatalf("body %q: the entry was not cached", v.Body)
	}
	wait(n.items.Invalidate(t.Context(), "a"))
	n.shows(t, "a", "two")
	change("three")
	wait(n.Invalidate(t.Context(), nil, []string{"all"}))
	n.shows(t, "a", "three")

	// A writer that died after its commit: any worker publishes for it.
	change("four")
	w.exec("INSERT INTO freshet_invalidation_outbox (ns, payload, created_at) VALUES (?, ?, 0), (?, ?, 0)",
		w.ns, `{"names":["item:a"]}`, w.ns, `not JSON`)
	n.shows(t, "a", "four")
	w.reaches(0, "SELECT COUNT(*) FROM freshet_invalidation_outbox")

	// Redis loses everything: what other writers said is emitted again like all else.
	rdb := rs.Client(t)
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error { return w.laneHas(ctx, rdb, `"item:a"`, `"all"`) })
	change("five")
	wait(n.items.Invalidate(t.Context(), "a"))
	n.shows(t, "a", "five")
}

// TestLostInvalidationsFlushTheLanes: when Kafka dropped what other writers said before a worker read it, it is not known
// what was named, so every entry goes; and what is said afterwards is heard.
func TestLostInvalidationsFlushTheLanes(t *testing.T) {
	testenv.Kafka(t).RequireReal(t)
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, testenv.Redis(t), map[string]string{"items.yaml": fmt.Sprintf(itemDataset, topic), "items.json": itemSchema})
	p := w.producer()
	worker := w.startWorker()
	n := w.tagged(p)
	publish(t, p, upsert("items", "a", 1, "one"))
	n.shows(t, "a", "one")
	wait := func(tok schemas.Token, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		w.seen(n.Node, tok)
	}
	wait(n.items.Invalidate(t.Context(), "other"))
	n.shows(t, "a", "one")

	worker.Kill(t)
	w.exec("UPDATE items SET body = 'two' WHERE id = 'a'")
	if _, err := n.items.Invalidate(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Offset = 2
	of := kmsg.NewDeleteRecordsRequestTopic()
	of.Topic, of.Partitions = schemas.InvalidationTopic(w.ns), append(of.Partitions, part)
	req.Topics = append(req.Topics, of)
	res, err := req.RequestWith(t.Context(), w.kafka.Client(t))
	if err != nil || res.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(err, res)
	}
	w.startWorker()
	n.shows(t, "a", "two")
	w.exec("UPDATE items SET body = 'three' WHERE id = 'a'")
	wait(n.items.Invalidate(t.Context(), "a"))
	n.shows(t, "a", "three")
}

// laneHas reports whether entries of the invalidation topic in the lane name all of texts.
func (w *world) laneHas(ctx context.Context, rdb *redis.Client, texts ...string) error {
	entries, err := rdb.XRange(ctx, lane.KeysOf(w.ns, 0).Stream, "-", "+").Result()
	if err != nil {
		return err
	}
	var all strings.Builder
	for _, e := range entries {
		if m, _ := e.Values["m"].(string); strings.Contains(m, schemas.InvalidationTopic(w.ns)) {
			all.WriteString(m)
		}
	}
	for _, text := range texts {
		if !strings.Contains(all.String(), text) {
			return fmt.Errorf("no entry names %s", text)
		}
	}
	return nil
}

// TestLettersAreCopied: with dead topics each letter is copied, at least once, before its offset is committed: a worker
// that dies while the dead topic is missing leaves the copies to the next one. What is applied is emitted meanwhile.
func TestLettersAreCopied(t *testing.T) {
	kafka := testenv.Kafka(t)
	topic, calm := kafka.CreateTopic(t, 1), kafka.CreateTopic(t, 1)
	dead := topic + ".dead"
	w := newWorld(t, testenv.Redis(t), map[string]string{
		"items.yaml": fmt.Sprintf(itemDataset, topic), "calm.yaml": fmt.Sprintf(calmDataset, calm), "items.json": itemSchema,
	})
	w.env = []string{"FRESHET_WORKER__DEAD_TOPICS=true"}
	if out := w.mustRun("migrate", "datasets"); !strings.Contains(out, "topic "+dead) {
		t.Errorf("migrate datasets makes no dead topic:\n%s", out)
	}
	t.Cleanup(func() {
		kafka.DeleteTopic(t, dead)
		kafka.DeleteTopic(t, calm+".dead")
	})
	w.exec(tame)
	p := w.producer()
	worker := w.startWorker()
	kc := kafka.Client(t)
	keyless := &kgo.Record{Topic: topic, Value: []byte("{"), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("none")}}}
	if err := kc.ProduceSync(t.Context(), keyless).FirstErr(); err != nil {
		t.Fatal(err)
	}
	wild := upsert("items", "a", 1, "wild")
	wild.ID = "the-id"
	publish(t, p, upsert("items", "before", 1, "x"), wild)
	got := w.copies(dead, 2)
	if h := got["0/0"]; h["freshet-reason"] != "malformed" || h["ce_id"] != "none" || h["freshet-dataset"] != "items" || h["value"] != "{" {
		t.Errorf("copy of a record without a key: %v", h)
	}
	check := "3819" // the number of a CHECK constraint
	if testenv.MySQL(t).MariaDB() {
		check = "4025"
	}
	if h := got["2/0"]; h["freshet-reason"] != "refused" || h["freshet-errno"] != check || h["ce_id"] != "the-id" || h["key"] != "a" ||
		!strings.HasPrefix(h["freshet-source"], topic+"/") || !strings.Contains(h["value"], "wild") {
		t.Errorf("copy of a refused row: %v", h)
	}

	w.commits(topic, 3)
	kafka.DeleteTopic(t, dead)
	publish(t, p, upsert("items", "b", 1, "wild"), upsert("items", "after", 1, "x"))
	w.reaches(3, "SELECT COUNT(*) FROM freshet_dead_letter")
	n := w.node("n")
	n.shows(t, "after", "x")
	publish(t, p, upsert("items", "after", 2, "y"))
	n.shows(t, "after", "y")
	// All partitions are committed together, so the neighbour's commit reports that this one's could have been.
	publish(t, p, upsert("calm", "z", 1, "x"))
	w.commits(calm, 1)
	worker.Kill(t)
	w.commits(topic, 3)
	kafka.CreateTopicNamed(t, dead, 1)
	w.startWorker()
	if h := w.copies(dead, 1)["3/0"]; h["freshet-reason"] != "refused" {
		t.Errorf("copy after the worker's death: %v", h)
	}
}

// commits waits until the group has committed this offset of the topic's only partition.
func (w *world) commits(topic string, want int64) {
	w.t.Helper()
	kc := w.kafka.Client(w.t)
	testenv.Eventually(w.t, settleLimit, func(ctx context.Context) error {
		req := kmsg.NewPtrOffsetFetchRequest()
		part := kmsg.NewOffsetFetchRequestTopic()
		part.Topic, part.Partitions = topic, []int32{0}
		group := kmsg.NewOffsetFetchRequestGroup()
		groupTopic := kmsg.NewOffsetFetchRequestGroupTopic()
		groupTopic.Topic, groupTopic.Partitions = topic, []int32{0}
		group.Group, group.Topics = w.ns, append(group.Topics, groupTopic)
		req.Group, req.Topics, req.Groups = w.ns, append(req.Topics, part), append(req.Groups, group)
		req.RequireStable = false
		res, err := req.RequestWith(ctx, kc)
		if err != nil {
			return err
		}
		at := int64(-1)
		for _, g := range res.Groups {
			for _, t := range g.Topics {
				at = t.Partitions[0].Offset
			}
		}
		if at != want {
			return fmt.Errorf("offset %d of %s is committed, want %d", at, topic, want)
		}
		return nil
	})
}

// copies waits for n different copies and returns their headers, with key and value, by "offset/index".
func (w *world) copies(topic string, n int) map[string]map[string]string {
	w.t.Helper()
	kc := w.kafka.Client(w.t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(w.t.Context(), settleLimit)
	defer cancel()
	got := map[string]map[string]string{}
	for len(got) < n {
		if ctx.Err() != nil {
			w.t.Fatalf("%d copies of %d in %s", len(got), n, topic)
		}
		kc.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			h := map[string]string{"key": string(r.Key), "value": string(r.Value)}
			for _, kv := range r.Headers {
				h[kv.Key] = string(kv.Value)
			}
			got[h["freshet-offset"]+"/"+h["freshet-index"]] = h
		})
	}
	return got
}
