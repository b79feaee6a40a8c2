package delivery_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
	"github.com/freshet/freshet/schemas"
)

func startProducer(t *testing.T, brokers []string, cfg delivery.Config) *delivery.Producer {
	t.Helper()
	p, err := delivery.New(kafkatest.Client(t, brokers), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Close(ctx)
	})
	return p
}

// ack is the outcome of a record.
type ack struct {
	at  delivery.Acked
	err error
}

// outcomes collects the outcomes of records by value.
type outcomes struct {
	mu  sync.Mutex
	got map[string]ack
	seq []string // values in the order of their outcomes
}

func newOutcomes() *outcomes { return &outcomes{got: map[string]ack{}} }

func (o *outcomes) add(value string, a delivery.Acked, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got[value] = ack{a, err}
	o.seq = append(o.seq, value)
}

func (o *outcomes) of(t *testing.T, value string) ack {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	a, ok := o.got[value]
	if !ok {
		t.Fatalf("record %q has no outcome", value)
	}
	return a
}

// send produces a record that holds value; key decides the partition.
func (o *outcomes) send(t *testing.T, p *delivery.Producer, key, value string) {
	t.Helper()
	rec := schemas.Record{Key: []byte(key), Value: []byte(value)}
	if err := p.Produce(t.Context(), kafkatest.Topic, rec, func(a delivery.Acked, err error) { o.add(value, a, err) }); err != nil {
		t.Fatalf("Produce: %v", err)
	}
}

func flush(t *testing.T, p *delivery.Producer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Within)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("Flush: %v; stats %+v", err, p.Stats())
	}
}

// sendOne produces one record and waits for its outcome.
func sendOne(t *testing.T, p *delivery.Producer, value string) ack {
	t.Helper()
	o := newOutcomes()
	o.send(t, p, "k", value)
	flush(t, p)
	return o.of(t, value)
}

// logOf returns what another client reads: the values per partition, in order.
func logOf(t *testing.T, brokers []string, topic string) map[int32][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Within)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	ends := logEnds(ctx, t, cl, topic)
	cl.Close()
	from := map[int32]kgo.Offset{}
	missing := 0
	for p, end := range ends {
		from[p] = kgo.NewOffset().AtStart()
		missing += int(end)
	}
	out := map[int32][]string{}
	if missing == 0 {
		return out
	}
	cl, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for missing > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("read the log back: %v; %d records missing", err, missing)
		}
		fs.EachRecord(func(r *kgo.Record) {
			out[r.Partition] = append(out[r.Partition], string(r.Value))
			missing--
		})
	}
	return out
}

// logEnds returns the end offset of each partition.
func logEnds(ctx context.Context, t *testing.T, cl *kgo.Client, topic string) map[int32]int64 {
	t.Helper()
	m := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = kmsg.StringPtr(topic)
	m.Topics = append(m.Topics, mt)
	mr, err := m.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for _, p := range mr.Topics[0].Partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p.Partition, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	ends := map[int32]int64{}
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			t.Fatal(shard.Err)
		}
		for _, tp := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range tp.Partitions {
				ends[p.Partition] = p.Offset
			}
		}
	}
	return ends
}

// wantLog compares the only partition's values.
func wantLog(t *testing.T, c *kfake.Cluster, want ...string) {
	t.Helper()
	if got := logOf(t, c.ListenAddrs(), kafkatest.Topic)[0]; !slices.Equal(got, want) {
		t.Errorf("log: got %q, want %q", got, want)
	}
}

// tamper is a listener whose connections may lose what goes over them: cut decides, for each produce exchange.
type tamper struct {
	net.Listener
	cut func() cutAt
}

// cutAt reports where an exchange breaks.
type cutAt int

const (
	cutNot cutAt = iota
	// cutRequest: the broker never sees the request.
	cutRequest
	// cutReply: the broker does the work and its reply is lost.
	cutReply
)

func tampered(cut func() cutAt) kfake.Opt {
	return kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), network, addr)
		if err != nil {
			return nil, err
		}
		return &tamper{l, cut}, nil
	})
}

func (l *tamper) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tamperedConn{Conn: c, cut: l.cut}, nil
}

// tamperedConn follows the frames that the broker reads, to know which requests are produce requests.
type tamperedConn struct {
	net.Conn
	cut func() cutAt

	head []byte // size and API key of the next request, as far as read
	skip int    // bytes of the request after those

	mu   sync.Mutex
	lose bool // the next reply
}

func (c *tamperedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for data := b[:n]; len(data) > 0; {
		if c.skip > 0 {
			k := min(c.skip, len(data))
			c.skip -= k
			data = data[k:]
			continue
		}
		k := min(6-len(c.head), len(data))
		c.head = append(c.head, data[:k]...)
		data = data[k:]
		if len(c.head) < 6 {
			break
		}
		c.skip = int(binary.BigEndian.Uint32(c.head)) - 2
		produce := binary.BigEndian.Uint16(c.head[4:]) == uint16(kmsg.Produce)
		c.head = c.head[:0]
		if !produce {
			continue
		}
		switch c.cut() {
		case cutNot:
		case cutRequest:
			_ = c.Close()
			return 0, net.ErrClosed
		case cutReply:
			c.mu.Lock()
			c.lose = true
			c.mu.Unlock()
		}
	}
	return n, err
}

func (c *tamperedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lose {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

// values returns prefix0, prefix1 … as they are produced.
func values(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%06d", prefix, i)
	}
	return out
}

// checkOrder reports whether each writer's values are stored in the logs exactly once and in order. Values are "writer/number".
func checkOrder(t *testing.T, logs map[int32][]string, writers, each int) {
	t.Helper()
	next := map[string]int{}
	for _, log := range logs {
		for _, v := range log {
			w, num, _ := strings.Cut(v, "/")
			if want := fmt.Sprintf("%06d", next[w]); num != want {
				t.Fatalf("writer %s: got %s, want %s: lost, twice or out of order", w, num, want)
			}
			next[w]++
		}
	}
	if len(next) != writers {
		t.Fatalf("got values of %d writers, want %d", len(next), writers)
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %s: got %d values, want %d", w, n, each)
		}
	}
}
