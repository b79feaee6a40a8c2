package delivery_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
)

func TestProduceTopicMadeAnew(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{})
	first := sendOne(t, p, "a")
	for _, v := range []string{"b", "c"} {
		if a := sendOne(t, p, v); a.err != nil || a.at.Partition != first.at.Partition {
			t.Fatalf("got %+v, %v", a.at, a.err)
		}
	}
	if err := c.DeleteTopic(kafkatest.Topic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(kafkatest.Topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	info, err := kafkatest.Client(t, c.ListenAddrs()).Topic(t.Context(), kafkatest.Topic)
	if err != nil {
		t.Fatal(err)
	}
	a := sendOne(t, p, "d")
	if a.err != nil || a.at.Offset != 0 || a.at.Partition.TopicID != info.ID || info.ID == first.at.Partition.TopicID {
		t.Errorf("got %+v, %v; want offset 0 of the new topic %s", a.at, a.err, info.ID)
	}
	if a := sendOne(t, p, "e"); a.err != nil || p.Stats().ProducerIDs < 2 {
		t.Errorf("got %v with %d ids, want a new id for the new topic", a.err, p.Stats().ProducerIDs)
	}
	wantLog(t, c, "d", "e")
}

// A new topic that is as long as the old one is noticed by asking from time to time.
func TestProduceRefreshesTopicID(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{Refresh: 20 * time.Millisecond})
	first := sendOne(t, p, "a")
	if err := c.DeleteTopic(kafkatest.Topic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(kafkatest.Topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	writer := startProducer(t, c.ListenAddrs(), delivery.Config{})
	for deadline := time.Now().Add(kafkatest.Within); ; {
		if a := sendOne(t, writer, "filler"); a.err != nil {
			t.Fatal(a.err)
		}
		a := sendOne(t, p, "b")
		if a.err != nil {
			t.Fatal(a.err)
		}
		if a.at.Partition.TopicID != first.at.Partition.TopicID {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the new topic id is never noticed")
		}
	}
}

func TestProduceIdleIDIsNotTrusted(t *testing.T) {
	c := kafkatest.Cluster(t, 1)
	p := startProducer(t, c.ListenAddrs(), delivery.Config{MaxIDIdle: 1})
	for i := range 3 {
		if a := sendOne(t, p, fmt.Sprint(i)); a.err != nil || a.at.Offset != int64(i) {
			t.Fatalf("got %+v, %v", a.at, a.err)
		}
	}
	if s := p.Stats(); s.ProducerIDs != 3 {
		t.Errorf("got %d producer ids, want 3", s.ProducerIDs)
	}
}
