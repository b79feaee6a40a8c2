package group_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

// An open transaction of another producer keeps what comes behind it from every reader: that shows, with the producer.
func TestOpenTransactionShows(t *testing.T) {
	ks := testenv.Kafka(t)
	topic := ks.CreateTopic(t, 1)
	c := kafkatest.Client(t, ks.Brokers)
	k := kafkatest.Franz(t, ks.Brokers)
	want := kafkatest.Write(t, k, topic, 0, "a", 3)
	txn := kafkatest.Franz(t, ks.Brokers, kgo.TransactionalID("open-"+topic))
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	open := kafkatest.Write(t, txn, topic, 0, "b", 1)
	id, _, err := txn.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	behind := kafkatest.Write(t, k, topic, 0, "c", 4)
	r := newRecorder()
	cfg := topics(topic)
	cfg.Group = topic
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, want)
	awaitStats(t, con, "records are held", func(st group.Stats) bool {
		return len(st.Partitions) == 1 && st.Partitions[0].Held == 5 && !st.Partitions[0].HeldSince.IsZero()
	})
	got, err := c.OpenTransactions(t.Context(), topic)
	if err != nil || len(got) != 1 || got[0].ProducerID != id || got[0].First != 3 || got[0].LastWrite.IsZero() {
		t.Errorf("open transactions: %+v, %v; want one of producer %d at offset 3", got, err, id)
	}
	if err := txn.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	awaitValues(t, r, append(append(want, open...), behind...))
	awaitStats(t, con, "no record is held", func(st group.Stats) bool {
		return st.Partitions[0].Held == 0 && st.Partitions[0].HeldSince.IsZero()
	})
	if got, err := c.OpenTransactions(t.Context(), topic); err != nil || len(got) != 0 {
		t.Errorf("after the end: %+v, %v", got, err)
	}
	r.check(t)
}
