package kafkalog_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
)

func TestNewChecksBrokers(t *testing.T) {
	for _, brokers := range [][]string{nil, {"nohost"}, {"a:1", ""}} {
		if _, err := kafkalog.New(kafkalog.Config{Brokers: brokers}); err == nil {
			t.Errorf("%q: want an error", brokers)
		}
	}
}

func TestAuthentication(t *testing.T) {
	cl := kafkatest.Cluster(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"), kfake.Superuser("SCRAM-SHA-256", "u", "p"), kfake.Superuser("SCRAM-SHA-512", "v", "q"))
	for _, x := range []struct {
		name string
		sasl kafkalog.SASL
		ok   bool
	}{
		{"plain", kafkalog.SASL{Mechanism: "plain", User: "u", Password: "p"}, true},
		{"scram", kafkalog.SASL{Mechanism: "scram-sha-256", User: "u", Password: "p"}, true},
		{"scram-sha-512", kafkalog.SASL{Mechanism: "scram-sha-512", User: "v", Password: "q"}, true},
		{"credentials", kafkalog.SASL{Mechanism: "plain", User: "u", Password: "former", Credentials: func(context.Context) (string, string, error) { return "u", "p", nil }}, true},
		{"wrong password", kafkalog.SASL{Mechanism: "plain", User: "u", Password: "secret"}, false},
		{"no credentials", kafkalog.SASL{Mechanism: "plain", Credentials: func(context.Context) (string, string, error) { return "", "", errors.New("vault is closed") }}, false},
		{"none", kafkalog.SASL{}, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := kafkalog.New(kafkalog.Config{Brokers: cl.ListenAddrs(), SASL: x.sasl})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_, err = c.Topic(ctx, kafkatest.Topic)
			if (err == nil) != x.ok {
				t.Errorf("got %v, want success %v", err, x.ok)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Error("the error holds the password")
			}
		})
	}
}

func TestNewChecksSASL(t *testing.T) {
	for want, s := range map[string]kafkalog.SASL{
		"Mechanism is missing": {User: "u", Password: "secret"},
		"User is missing":      {Mechanism: "plain", Password: "secret"},
		"is unknown":           {Mechanism: "PLAIN", User: "u", Password: "secret"},
		"unknown; give plain":  {Mechanism: "gssapi", Credentials: func(context.Context) (string, string, error) { return "", "", nil }},
		"use others":           {Mechanism: "scram-sha-512", User: "u", Password: "secret\x00"},
	} {
		_, err := kafkalog.New(kafkalog.Config{Brokers: []string{"h:1"}, SASL: s})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestSilentBrokerHoldsNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := kafkatest.Client(t, []string{l.Addr().String()})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	at := time.Now()
	if _, err := c.Topic(ctx, "t"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v, want the deadline and the broker's name", err)
	}
	if d := time.Since(at); d > 3*time.Second {
		t.Errorf("took %s after a deadline of 100ms", d)
	}
}

func TestAnotherBrokerAnswers(t *testing.T) {
	cl := kafkatest.Cluster(t, 1)
	c := kafkatest.Client(t, append([]string{"127.0.0.1:1"}, cl.ListenAddrs()...))
	for range 3 {
		if _, err := c.Topic(t.Context(), kafkatest.Topic); err != nil {
			t.Error(err)
		}
	}
}

func TestClosedClient(t *testing.T) {
	cl := kafkatest.Cluster(t, 1)
	c := kafkatest.Client(t, cl.ListenAddrs())
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Topic(t.Context(), kafkatest.Topic); !errors.Is(err, kafkalog.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestBrokersWithoutTopicIDs(t *testing.T) {
	cl := kafkatest.Cluster(t, 1, kfake.MaxVersions(kversion.V2_7_0()))
	if _, err := kafkatest.Client(t, cl.ListenAddrs()).Topic(t.Context(), kafkatest.Topic); !errors.Is(err, kafkalog.ErrNoTopicIDs) {
		t.Errorf("got %v, want ErrNoTopicIDs", err)
	}
	cl = kafkatest.Cluster(t, 3, kfake.MaxVersions(kversion.V2_8_0()))
	info, err := kafkatest.Client(t, cl.ListenAddrs()).Topic(t.Context(), kafkatest.Topic)
	if err != nil || info.Partitions != 3 || len(info.ID) != 22 || info.Name != kafkatest.Topic {
		t.Errorf("2.8: got %+v, %v", info, err)
	}
}

func TestTopicsAreMadeAndRemoved(t *testing.T) {
	cl := kafkatest.Cluster(t, 1, kfake.NumBrokers(3))
	c := kafkatest.Client(t, cl.ListenAddrs())
	specs := []kafkalog.TopicSpec{{Name: "a", Partitions: 3}, {Name: "b", Config: map[string]string{"cleanup.policy": "compact"}}}
	for range 2 { // the second time they exist
		if err := c.CreateTopics(t.Context(), specs); err != nil {
			t.Fatal(err)
		}
	}
	first, err := c.Topic(t.Context(), "a")
	if err != nil || first.Partitions != 3 {
		t.Fatalf("got %+v, %v", first, err)
	}
	for range 2 {
		if err := c.DeleteTopics(t.Context(), []string{"a"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Topic(t.Context(), "a"); !errors.Is(err, kafkalog.ErrNoTopic) {
		t.Errorf("deleted topic: got %v, want ErrNoTopic", err)
	}
	if err := c.CreateTopics(t.Context(), specs[:1]); err != nil {
		t.Fatal(err)
	}
	if again, err := c.Topic(t.Context(), "a"); err != nil || again.ID == first.ID {
		t.Errorf("a topic recreated: got %+v, %v; want another id than %s", again, err, first.ID)
	}
}

func TestCheckTopic(t *testing.T) {
	cl := kafkatest.Cluster(t, 1, kfake.NumBrokers(3))
	c := kafkatest.Client(t, cl.ListenAddrs())
	const day = 24 * time.Hour
	for _, x := range []struct {
		name     string
		replicas int
		config   map[string]string
		want     []string // settings
	}{
		{"good", 3, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000", "delete.retention.ms": "604800000", "min.insync.replicas": "2"}, nil},
		{"for-ever", 3, map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "min.insync.replicas": "2"}, nil},
		{"compact-at-once", 3, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "0", "delete.retention.ms": "604800000", "min.insync.replicas": "2"}, []string{"min.compaction.lag.ms"}},
		{"week", 3, map[string]string{"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "1000", "min.insync.replicas": "2"}, []string{"retention.ms", "retention.bytes"}},
		{"both", 3, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "1000", "min.compaction.lag.ms": "86400000", "delete.retention.ms": "604800000", "min.insync.replicas": "2"}, []string{"retention.ms"}},
		{"one-acknowledges", 3, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000", "delete.retention.ms": "604800000", "min.insync.replicas": "1"}, []string{"min.insync.replicas"}},
		{"deletions-for-a-day", 3, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000", "min.insync.replicas": "2"}, []string{"delete.retention.ms"}},
		{"one-replica", 1, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000", "delete.retention.ms": "604800000"}, []string{"replication.factor"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			if err := c.CreateTopics(t.Context(), []kafkalog.TopicSpec{{Name: x.name, ReplicationFactor: x.replicas, Config: x.config}}); err != nil {
				t.Fatal(err)
			}
			got, err := c.CheckTopic(t.Context(), x.name, day)
			if err != nil {
				t.Fatal(err)
			}
			var settings []string
			for _, w := range got {
				settings = append(settings, w.Setting)
				if w.Problem == "" || w.Fix == "" || !strings.Contains(w.String(), w.Setting+"=") {
					t.Errorf("warning %+v says too little", w)
				}
			}
			if strings.Join(settings, " ") != strings.Join(x.want, " ") {
				t.Errorf("got %v, want %v", settings, x.want)
			}
		})
	}
	if _, err := c.CheckTopic(t.Context(), "nobody", day); !errors.Is(err, kafkalog.ErrNoTopic) {
		t.Errorf("no topic: got %v, want ErrNoTopic", err)
	}
}

func TestCheckVersions(t *testing.T) {
	for _, x := range []struct {
		name string
		v    *kversion.Versions
		want string // the API of the first complaint
	}{{"now", kversion.Stable(), ""}, {"2.8", kversion.V2_8_0(), ""}, {"2.7", kversion.V2_7_0(), "Metadata"}, {"1.0", kversion.V1_0_0(), "Metadata"}} {
		t.Run(x.name, func(t *testing.T) {
			got, err := kafkatest.Client(t, kafkatest.Cluster(t, 1, kfake.MaxVersions(x.v)).ListenAddrs()).CheckVersions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (len(got) == 0) != (x.want == "") || len(got) > 0 && !strings.HasPrefix(got[0], x.want) {
				t.Errorf("got %q, want complaints about %q", got, x.want)
			}
		})
	}
}
