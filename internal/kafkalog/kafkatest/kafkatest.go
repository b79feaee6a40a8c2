// Package kafkatest has what the tests of kafkalog and of the packages on it share: clusters, clients, and records that
// another program writes.
package kafkatest

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

// Topic exists in every cluster of Cluster.
const Topic = "freshet.users"

// Within is how long a test waits for what must come.
const Within = time.Minute

// Cluster starts a cluster in this process, with one broker unless opts ask for more.
func Cluster(t *testing.T, partitions int32, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(partitions, Topic)}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Client returns a client of ours that is closed with the test.
func Client(t *testing.T, brokers []string) *kafkalog.Client {
	t.Helper()
	c, err := kafkalog.New(kafkalog.Config{Brokers: brokers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Franz returns a client of franz-go, which stands for other programs. Records go to the partitions that they state.
func Franz(t *testing.T, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	k, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// Fake returns a cluster of Cluster with a Client and a Franz.
func Fake(t *testing.T, partitions int32, opts ...kfake.Opt) (*kfake.Cluster, *kafkalog.Client, *kgo.Client) {
	t.Helper()
	cl := Cluster(t, partitions, opts...)
	return cl, Client(t, cl.ListenAddrs()), Franz(t, cl.ListenAddrs())
}

// Real returns a new topic of Apache Kafka, whose tests ask what the stand-in may get wrong, with a Client and a Franz.
func Real(t *testing.T, partitions int32, config ...string) (ks *testenv.KafkaServer, c *kafkalog.Client, k *kgo.Client, topic string) {
	t.Helper()
	ks = testenv.Kafka(t)
	ks.RequireReal(t)
	return ks, Client(t, ks.Brokers), Franz(t, ks.Brokers), ks.CreateTopic(t, partitions, config...)
}

// Write produces n records with values prefix00000 … to a partition and returns the values, sorted.
func Write(t *testing.T, k *kgo.Client, topic string, partition int32, prefix string, n int) []string {
	t.Helper()
	var recs []*kgo.Record
	var want []string
	for i := range n {
		v := fmt.Sprintf("%s%05d", prefix, i)
		want = append(want, v)
		recs = append(recs, &kgo.Record{Topic: topic, Partition: partition, Key: []byte(v), Value: []byte(v)})
	}
	if err := k.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return want
}

// Truncate deletes a partition's records before an offset, as retention does.
func Truncate(t *testing.T, k *kgo.Client, topic string, partition int32, before int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: before}}}}
	res, err := req.RequestWith(t.Context(), k)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FetchError is a broker's answer that refuses every partition of a fetch request.
func FetchError(req *kmsg.FetchRequest, code *kerr.Error) *kmsg.FetchResponse {
	res := req.ResponseKind().(*kmsg.FetchResponse)
	for _, rt := range req.Topics {
		t := kmsg.NewFetchResponseTopic()
		t.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.ErrorCode, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = rp.Partition, code.Code, -1, -1, -1
			t.Partitions = append(t.Partitions, p)
		}
		res.Topics = append(res.Topics, t)
	}
	return res
}

// Values returns the values of a batch's records.
func Values(b *kafkalog.Batch) []string {
	out := make([]string, 0, len(b.Records))
	for _, rec := range b.Records {
		out = append(out, string(rec.Value))
	}
	return out
}
