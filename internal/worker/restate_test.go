package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// compact makes Kafka compact the topic of a dataset.
func (b *bed) compact(dataset string) { b.cleanup(dataset, "compact") }

func (b *bed) cleanup(dataset, policy string) {
	b.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, b.dataset(dataset).Topic
	cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	cfg.Name, cfg.Value = "cleanup.policy", kmsg.StringPtr(policy)
	res.Configs = append(res.Configs, cfg)
	req.Resources = append(req.Resources, res)
	answer, err := req.RequestWith(b.t.Context(), b.producer)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := kerr.ErrorForCode(answer.Resources[0].ErrorCode); err != nil {
		b.t.Fatal(err)
	}
}

// last returns, by key, the last event of the topic: all that compaction would leave.
func (b *bed) last(ctx context.Context, dataset string) (map[string]string, error) {
	d := b.dataset(dataset)
	info, err := b.client.Topic(ctx, d.Topic)
	if err != nil {
		return nil, err
	}
	r := kafkalog.NewReader(b.client, kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: 0}, 0, kafkalog.ReaderConfig{Until: b.end(dataset)})
	defer r.Close()
	out := map[string]string{}
	for {
		batch, err := r.Read(ctx)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		for _, rec := range batch.Records {
			events, err := d.Decode(rec)
			if err != nil {
				return nil, err
			}
			for i := range events {
				out[events[i].Key] = fmt.Sprintf("%s %d %s", events[i].Op, events[i].Version, events[i].Data)
			}
		}
		batch.Release()
	}
}

func (b *bed) awaitLast(dataset, key, want string) {
	b.t.Helper()
	testenv.Eventually(b.t, patience, func(ctx context.Context) error {
		last, err := b.last(ctx, dataset)
		if err == nil && last[key] != want {
			err = fmt.Errorf("the last event of %s is %q, want %q", key, last[key], want)
		}
		return err
	})
}

// delete publishes a deletion.
func (b *bed) delete(dataset, key string, version int64) {
	b.t.Helper()
	d := b.dataset(dataset)
	rec, err := d.Encode(&schemas.Event{ID: fmt.Sprint("gone", key, version), Source: "//test", Dataset: dataset, Key: key, Op: schemas.Delete, Version: version})
	if err != nil {
		b.t.Fatal(err)
	}
	b.produce(d.Topic, 0, rec.Key, rec.Value, rec.Headers)
}

// A late event must not be what compaction leaves of its record: the newest state follows it, once, and nothing follows
// that.
func TestCompactedTopicKeepsTheHighestVersion(t *testing.T) {
	b := newBed(t, servers{})
	b.compact("items")
	w := b.start(nil)
	const k1, k2 = `upsert 5 {"id":"k1","n":5,"name":"v5"}`, `upsert 6 {"id":"k2","n":6,"name":"v6"}`
	b.put("items", "k1", 5)
	b.awaitRow("items", "k1", 5)
	b.put("items", "k1", 3)
	b.awaitLast("items", "k1", k1)

	b.delete("items", "k3", 4)
	b.awaitRow("items", "k3", 4)
	b.put("items", "k3", 2)
	b.awaitLast("items", "k3", `delete 4 {"id":"k3"}`)
	w.stop()

	// Both events in one batch, and an event whose version is the row's.
	b.put("items", "k2", 6)
	b.put("items", "k2", 1)
	b.put("items", "k1", 5)
	w = b.start(nil)
	b.awaitLast("items", "k2", k2)
	b.awaitLast("items", "k1", k1)
	b.awaitDone("items")
	end := b.end("items")
	b.put("items", "k4", 1)
	b.awaitRow("items", "k4", 1)
	b.awaitDone("items")
	if got := b.end("items"); got != end+1 {
		t.Errorf("the log ends at %d, want %d: something follows what was published again", got, end+1)
	}
	awaitStats(t, w, "one state was published again by this worker", func(s worker.Stats) bool { return s.Restated == 1 && s.Unrestated == 0 })
	if n := b.count("freshet_dead_letter"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// Where Kafka does not compact, nothing is published.
func TestOtherTopicsAreLeftAsTheyAre(t *testing.T) {
	b := newBed(t, servers{})
	w := b.start(nil)
	b.put("items", "k1", 5)
	b.awaitRow("items", "k1", 5)
	b.put("items", "k1", 3)
	b.put("items", "k2", 1)
	b.awaitRow("items", "k2", 1)
	b.awaitDone("items")
	if end := b.end("items"); end != 3 || w.Stats().Restated != 0 {
		t.Errorf("the log ends at %d, want 3; %d states were published", end, w.Stats().Restated)
	}
}

// A topic may be compacted and trimmed.
func TestTrimmedTopicIsCompactedToo(t *testing.T) {
	b := newBed(t, servers{})
	b.cleanup("items", "compact,delete")
	b.start(nil)
	b.put("items", "k1", 5)
	b.awaitRow("items", "k1", 5)
	b.put("items", "k1", 3)
	b.awaitLast("items", "k1", `upsert 5 {"id":"k1","n":5,"name":"v5"}`)
}

// A row that lacks properties of its event is not published under the event's version: the topic would lose them.
func TestPartialStateIsNotPublished(t *testing.T) {
	for name, change := range map[string]func(b *bed){
		"properties that no schema has": func(b *bed) {
			b.upsert("k1", 5, map[string]any{"name": "v5", "n": 5, "more": "x"})
		},
		"properties of the registered schema": func(b *bed) {
			b.put("items", "k1", 5)
			b.awaitRow("items", "k1", 5)
			b.datasets = b.older("")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, servers{})
			b.compact("items")
			w := b.start(nil)
			change(b)
			b.awaitRow("items", "k1", 5)
			w.stop()
			w = b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = b.datasets })
			b.upsert("k1", 3, map[string]any{"name": "v3", "more": "x"})
			b.delete("items", "k2", 4)
			b.upsert("k2", 2, map[string]any{"name": "v2"})
			b.awaitLast("items", "k2", `delete 4 {"id":"k2"}`)
			awaitStats(t, w, "the partial state was counted", func(s worker.Stats) bool { return s.Unrestated == 1 && s.Restated == 1 })
		})
	}
}

// A worker that may not read a topic's settings continues.
func TestUnknownPolicyHoldsNothingUp(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.min.session.timeout.ms": "100"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	b := newBed(t, servers{kafka: &testenv.KafkaServer{Brokers: fake.ListenAddrs()}})
	fake.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		res := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, r := range req.(*kmsg.DescribeConfigsRequest).Resources {
			one := kmsg.NewDescribeConfigsResponseResource()
			one.ErrorCode, one.ResourceType, one.ResourceName = kerr.TopicAuthorizationFailed.Code, r.ResourceType, r.ResourceName
			res.Resources = append(res.Resources, one)
		}
		return res, nil, true
	})
	w := b.start(nil)
	b.put("items", "k1", 5)
	b.awaitRow("items", "k1", 5)
	b.put("items", "k1", 3)
	b.put("items", "k2", 1)
	b.awaitDone("items")
	awaitStats(t, w, "the state was counted", func(s worker.Stats) bool { return s.Unrestated == 1 && s.Restated == 0 })
	awaitReady(t, w)
}
