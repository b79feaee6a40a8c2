package kafkalog_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/internal/testenv"
)

// dialer counts the connections that it opens, and ends them.
type dialer struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var nd net.Dialer
	c, err := nd.DialContext(ctx, network, addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.conns = append(d.conns, c)
	}
	return c, err
}

func (d *dialer) opened() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

// Questions use the connections of earlier ones, and connections that ended meanwhile fail none.
func TestQuestionsShareConnections(t *testing.T) {
	ks, _, k, topic := kafkatest.Real(t, 3)
	kafkatest.Write(t, k, topic, 0, "a", 3)
	d := &dialer{}
	c, err := kafkalog.New(kafkalog.Config{Brokers: ks.Brokers, KeepIdle: time.Minute, Dial: d.dial})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() {
		t.Helper()
		info, err := c.Topic(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Offsets(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CommittedOffsets(t.Context(), "nobody", []string{topic}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.OpenTransactions(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		r := kafkalog.NewReader(c, kafkalog.Partition{Topic: topic, TopicID: info.ID, ID: 0}, 0, kafkalog.ReaderConfig{Until: 1, FetchWait: time.Millisecond})
		b, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	first := d.opened()
	for range 20 {
		ask()
	}
	if n := d.opened(); n != first || first > 4 {
		t.Errorf("questions opened %d connections at first and %d later, want as good as none later", first, n-first)
	}
	d.mu.Lock()
	for _, nc := range d.conns {
		_ = nc.Close()
	}
	d.mu.Unlock()
	ask()
	if n := d.opened(); n == first {
		t.Error("nothing was opened after all connections had ended")
	}
}

// A broker that went away while a connection to it was kept fails no question that another broker can answer.
func TestQuestionsPassOverABrokerThatWentAway(t *testing.T) {
	ks, _, _, topic := kafkatest.Real(t, 1)
	a, b := testenv.NewProxy(t, ks.Brokers[0]), testenv.NewProxy(t, ks.Brokers[0])
	c, err := kafkalog.New(kafkalog.Config{Brokers: []string{a.Addr, b.Addr}, KeepIdle: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() {
		t.Helper()
		for range 4 { // each begins with another broker
			if _, err := c.Topic(t.Context(), topic); err != nil {
				t.Error(err)
			}
		}
	}
	ask()
	a.Lead("")
	ask()
}

// Any number of topics is looked up by one request.
func TestTopicsAsksOnce(t *testing.T) {
	names := []string{"topic-a", "topic-b", "topic-c"}
	cl, c, _ := kafkatest.Fake(t, 1, kfake.SeedTopics(2, names...), kfake.NumBrokers(1))
	asked := cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Observe: true, Count: -1})
	infos, err := c.Topics(t.Context(), names)
	if err != nil || len(infos) != 3 || infos["topic-b"].Name != "topic-b" || infos["topic-b"].Partitions != 2 || infos["topic-b"].ID == infos["topic-c"].ID {
		t.Errorf("topics %v, %v", infos, err)
	}
	if n := asked.Hits(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	if _, err := c.Topics(t.Context(), append(names, "none")); !errors.Is(err, kafkalog.ErrNoTopic) {
		t.Errorf("error %v, want ErrNoTopic", err)
	}
}
