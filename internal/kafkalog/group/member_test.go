package group_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
)

// A deleted topic is named as missing and is not created again by asking, even where brokers create topics on request; the
// other topics flow, and the topic is read again once it is recreated.
func TestDeletedTopicIsLeftOut(t *testing.T) {
	const other = "other"
	cl, c, k := kafkatest.Fake(t, 1, kfake.SeedTopics(1, other), kfake.AllowAutoTopicCreation())
	var creating atomic.Int64
	cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Observe: true, Count: -1, When: func(req kmsg.Request) bool {
		if m, ok := req.(*kmsg.MetadataRequest); ok && m.AllowAutoTopicCreation && len(m.Topics) > 0 {
			creating.Add(1)
		}
		return false
	}})
	want := slices.Concat(kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5), kafkatest.Write(t, k, other, 0, "b", 5))
	r := newRecorder()
	cfg := topics(kafkatest.Topic, other)
	cfg.WatchInterval = 100 * time.Millisecond
	con, _ := consume(t, c, cfg, r)
	awaitValues(t, r, want)
	k.Close() // a client that knows the topic might ask for it
	creating.Store(0)
	if err := c.DeleteTopics(t.Context(), []string{other}); err != nil {
		t.Fatal(err)
	}
	awaitStats(t, con, "the topic is missing", func(st group.Stats) bool {
		return slices.Equal(st.Missing, []string{other}) && st.Assigned && len(st.Partitions) == 1
	})
	sessions := con.Stats().Sessions
	k = kafkatest.Franz(t, cl.ListenAddrs())
	want = append(want, kafkatest.Write(t, k, kafkatest.Topic, 0, "c", 5)...)
	awaitValues(t, r, want)
	if n := creating.Load(); n > 0 {
		t.Errorf("%d requests would create topics", n)
	}
	if n := con.Stats().Sessions - sessions; n > 1 {
		t.Errorf("the other topic took %d sessions, want the same one", n)
	}
	if err := c.CreateTopics(t.Context(), []kafkalog.TopicSpec{{Name: other}}); err != nil {
		t.Fatal(err)
	}
	want = append(want, kafkatest.Write(t, kafkatest.Franz(t, cl.ListenAddrs()), other, 0, "d", 5)...)
	awaitValues(t, r, want)
	awaitStats(t, con, "no topic is missing", func(st group.Stats) bool { return len(st.Missing) == 0 })
	r.check(t)
}

// A partition without a leader does not keep the others from being read; it is reported, and taken once a leader answers.
func TestLeaderlessPartitionIsLate(t *testing.T) {
	const other = "other"
	cl, c, k := kafkatest.Fake(t, 1, kfake.SeedTopics(1, other))
	want := kafkatest.Write(t, k, other, 0, "b", 5)
	late := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	fault := cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: kafkatest.Topic, Err: kerr.LeaderNotAvailable, Count: -1})
	r := newRecorder()
	con, _ := consume(t, c, topics(kafkatest.Topic, other), r)
	awaitValues(t, r, want)
	st := con.Stats()
	if len(st.Late) != 1 || st.Late[0].Topic != kafkatest.Topic || st.Late[0].Err == nil {
		t.Errorf("late: got %+v, want %s/0 with an error", st.Late, kafkatest.Topic)
	}
	fault.Remove()
	awaitValues(t, r, append(want, late...))
	if again := con.Stats(); again.Generation != st.Generation || len(again.Late) > 0 {
		t.Errorf("got generation %d and %d late partitions, want generation %d and none", again.Generation, len(again.Late), st.Generation)
	}
	r.check(t)
}

// All partitions of an assignment are asked for in one request per broker, however many topics they are of.
func TestAssignmentAsksOnce(t *testing.T) {
	names := make([]string, 40)
	for i := range names {
		names[i] = "topic-" + string(rune('a'+i/10)) + string(rune('0'+i%10))
	}
	cl, c, _ := kafkatest.Fake(t, 1, kfake.SeedTopics(1, names...), kfake.NumBrokers(1))
	offsets := cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Observe: true, Count: -1})
	con, _ := consume(t, c, topics(names...), newRecorder())
	awaitStats(t, con, "all are assigned", func(st group.Stats) bool { return len(st.Partitions) == len(names) })
	if n := offsets.Hits(); n > 2 {
		t.Errorf("%d requests for offsets of %d topics, want one per broker", n, len(names))
	}
}

// Authentication that runs out, and connections that end, are no reason to join again.
func TestMembershipOutlivesItsConnections(t *testing.T) {
	users := []kfake.Opt{
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "700"}),
	}
	cl := kafkatest.Cluster(t, 1, users...)
	c, err := kafkalog.New(kafkalog.Config{Brokers: cl.ListenAddrs(), SASL: kafkalog.SASL{Mechanism: "plain", User: "u", Password: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	k := kafkatest.Franz(t, cl.ListenAddrs(), kgo.SASL(saslplain.Auth{User: "u", Pass: "p"}.AsMechanism()))
	joins := cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Observe: true, Count: -1})
	auths := cl.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Observe: true, Count: -1})
	var beats atomic.Int64
	cl.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		if beats.Add(1)%4 == 0 {
			return nil, errors.New("close the connection"), true
		}
		return nil, nil, false
	})
	r := newRecorder()
	con, _ := consume(t, c, topics(kafkatest.Topic), r)
	want := kafkatest.Write(t, k, kafkatest.Topic, 0, "a", 5)
	awaitValues(t, r, want)
	before := joins.Hits()
	eventually(t, func() string {
		if beats.Load() < 30 {
			return "30 heartbeats"
		}
		return ""
	})
	if err := auths.Wait(t.Context(), auths.Hits()+2); err != nil {
		t.Fatal(err)
	}
	want = append(want, kafkatest.Write(t, k, kafkatest.Topic, 0, "b", 5)...)
	awaitValues(t, r, want)
	if st := con.Stats(); joins.Hits() != before || st.Sessions != 1 {
		t.Errorf("%d joins and %d sessions, want %d and 1: %v", joins.Hits(), st.Sessions, before, st.LastError)
	}
	r.check(t)
}
