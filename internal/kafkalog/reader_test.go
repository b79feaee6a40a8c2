package kafkalog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
)

func partitionOf(t *testing.T, c *kafkalog.Client, topic string, id int32) kafkalog.Partition {
	t.Helper()
	info, err := c.Topic(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return kafkalog.Partition{Topic: topic, TopicID: info.ID, ID: id}
}

// readAll reads to the end of the reader's range and checks that batches join.
func readAll(t *testing.T, r *kafkalog.Reader) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Within)
	defer cancel()
	var got []string
	for next := r.Next(); ; {
		b, err := r.Read(ctx)
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.From != next || b.Next != r.Next() {
			t.Fatalf("batch from %d to %d, want from %d to %d", b.From, b.Next, next, r.Next())
		}
		next = b.Next
		got = append(got, kafkatest.Values(b)...)
		b.Release()
	}
}

func TestReaderReadsARange(t *testing.T) {
	cl, c, k := kafkatest.Fake(t, 1)
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 100)
	txn := kafkatest.Franz(t, cl.ListenAddrs(), kgo.TransactionalID("w"))
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	kafkatest.Write(t, txn, kafkatest.Topic, 0, "aborted", 10)
	if err := txn.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	want = append(want, kafkatest.Write(t, k, kafkatest.Topic, 0, "b", 10)...)
	p := partitionOf(t, c, kafkatest.Topic, 0)
	for _, x := range []struct {
		from, until int64
		want        []string
	}{
		{0, 121, want}, {10, 20, want[10:20]}, {95, 112, want[95:101]}, {105, 108, nil}, {50, 50, nil},
	} {
		t.Run(fmt.Sprint(x.from, " to ", x.until), func(t *testing.T) {
			r := kafkalog.NewReader(c, p, x.from, kafkalog.ReaderConfig{Until: x.until, MaxRecords: 7})
			defer func() { _ = r.Close() }()
			if got := readAll(t, r); !slices.Equal(got, x.want) {
				t.Errorf("got %d values %v, want %d", len(got), got, len(x.want))
			}
		})
	}
	if at, err := c.Offsets(t.Context(), kafkatest.Topic); err != nil || at[0] != (kafkalog.Offsets{First: 0, LastStable: 121, HighWater: 121}) {
		t.Errorf("Offsets: got %v, %v", at, err)
	}
}

func TestReaderWaitsForRecords(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
	r := kafkalog.NewReader(c, partitionOf(t, c, kafkatest.Topic, 0), 0, kafkalog.ReaderConfig{Until: 1, FetchWait: 50 * time.Millisecond})
	defer func() { _ = r.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := r.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("empty log: got %v, want the deadline", err)
	}
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 1)
	if got := readAll(t, r); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReaderSaysWhatIsWrong(t *testing.T) {
	_, c, k := kafkatest.Fake(t, 1)
	kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 10)
	kafkatest.Truncate(t, k, kafkatest.Topic, 0, 5)
	p := partitionOf(t, c, kafkatest.Topic, 0)
	other := p
	other.TopicID = "AAAAAAAAAAAAAAAAAAAAAA"
	for _, x := range []struct {
		name string
		part kafkalog.Partition
		from int64
		ok   func(error) bool
	}{
		{"below", p, 2, func(err error) bool {
			var le *kafkalog.LossError
			return errors.As(err, &le) && le.Loss == kafkalog.Loss{Partition: p, Next: 2, First: 5, Last: 10}
		}},
		{"above", p, 12, func(err error) bool { var le *kafkalog.LossError; return errors.As(err, &le) && le.Loss.Next == 12 }},
		{"recreated", other, 5, func(err error) bool { return errors.Is(err, kafkalog.ErrTopicChanged) }},
		{"no topic", kafkalog.Partition{Topic: "nobody"}, 0, func(err error) bool { return errors.Is(err, kafkalog.ErrNoTopic) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Within)
			defer cancel()
			r := kafkalog.NewReader(c, x.part, x.from, kafkalog.ReaderConfig{})
			defer func() { _ = r.Close() }()
			if _, err := r.Read(ctx); !x.ok(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestReaderFollowsTheLeader(t *testing.T) {
	cl, c, k := kafkatest.Fake(t, 1)
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 10)
	var times atomic.Int64
	cl.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		switch times.Add(1) {
		case 1:
			return kafkatest.FetchError(req.(*kmsg.FetchRequest), kerr.NotLeaderForPartition), nil, true
		case 2:
			return nil, errors.New("test says no"), true
		}
		return nil, nil, false
	})
	r := kafkalog.NewReader(c, partitionOf(t, c, kafkatest.Topic, 0), 0, kafkalog.ReaderConfig{Until: 10})
	defer func() { _ = r.Close() }()
	if got := readAll(t, r); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
