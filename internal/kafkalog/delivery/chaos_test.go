package delivery_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/kafkatest"
)

// Requests and replies get lost and leaders move: every record is in the log, once, in order.
func TestProduceChaos(t *testing.T) {
	const writers, each = 6, 1500
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(7, 11))
	cuts := map[cutAt]int{}
	c := kafkatest.Cluster(t, 4, kfake.NumBrokers(3), tampered(func() cutAt {
		mu.Lock()
		defer mu.Unlock()
		at := cutNot
		switch n := rng.IntN(100); {
		case n < 8:
			at = cutReply
		case n < 12:
			at = cutRequest
		}
		cuts[at]++
		return at
	}))
	p := startProducer(t, c.ListenAddrs(), delivery.Config{MaxBatchRecords: 40, MaxBufferedBytes: 32 << 10})
	produceInOrder(t, p, writers, each, func(i int) {
		if i%100 == 50 {
			c.ShufflePartitionLeaders()
		}
	})
	checkOrder(t, logOf(t, c.ListenAddrs(), kafkatest.Topic), writers, each)
	mu.Lock()
	defer mu.Unlock()
	if cuts[cutReply] == 0 || cuts[cutRequest] == 0 {
		t.Errorf("nothing was cut: %v", cuts)
	}
	s := p.Stats()
	t.Logf("cuts %v, stats %+v", cuts, s)
	if s.ProducerIDs != uint64(len(logOf(t, c.ListenAddrs(), kafkatest.Topic))) {
		t.Errorf("got %d producer ids, want one per used partition", s.ProducerIDs)
	}
}
