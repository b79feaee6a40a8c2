package invalidation

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"strconv"
	"testing"

	"github.com/maypok86/otter/v2"

	"github.com/freshet/freshet/invalidation/lane"
)

// BenchmarkInvalidation is what one invalidated key costs a node: absent from the local tier, there and newer than the
// invalidation, or dropped.
func BenchmarkInvalidation(b *testing.B) {
	const records = 10_000
	setup := func(b *testing.B) (*Cache[string], *lane.Payload) {
		b.Helper()
		n := &Node{clock: logical{seed: maphash.MakeSeed()}, log: slog.New(slog.DiscardHandler)}
		n.lanes = []*follower{newFollower(n, 0)}
		k := &core[string]{node: n, dataset: &dataset{lanes: make([]agreement, 1)}, stats: &cacheCounts{}}
		c := &Cache[string]{core: k, local: &local[string]{core: k, prefix: "user:", single: true}}
		store, err := otter.New(&otter.Options[string, *entry[string]]{MaximumSize: DefaultMaxEntries})
		if err != nil {
			b.Fatal(err)
		}
		c.local.store = store
		n.caches.Store(&[]localTier{c})
		p := &lane.Payload{Source: "s"}
		for i := range lane.MaxKeys {
			p.Items = append(p.Items, lane.Item{Key: fmt.Sprintf("user:%d", i), Version: 7})
		}
		return c, p
	}
	perKey := func(b *testing.B) {
		b.Helper()
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lane.MaxKeys), "ns/key")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("absent", func(b *testing.B) {
		c, p := setup(b)
		for i := range records {
			c.local.store.Set(fmt.Sprintf("other%d", i), &entry[string]{version: 9, plain: true})
		}
		b.ReportAllocs()
		for b.Loop() {
			c.node.lanes[0].view.apply(p, false)
		}
		perKey(b)
	})
	b.Run("present and newer", func(b *testing.B) {
		c, p := setup(b)
		for i := range p.Items {
			c.local.store.Set(strconv.Itoa(i), &entry[string]{version: 9, plain: true})
		}
		b.ReportAllocs()
		for b.Loop() {
			c.node.lanes[0].view.apply(p, false)
		}
		perKey(b)
	})
	b.Run("dropped", func(b *testing.B) {
		c, p := setup(b)
		old := make([]entry[string], len(p.Items))
		for i := range p.Items {
			old[i].version, old[i].plain = 1, true
			c.local.store.Set(strconv.Itoa(i), &old[i])
		}
		b.ReportAllocs()
		for b.Loop() {
			for i := range old {
				old[i].dead.Store(false)
			}
			c.node.lanes[0].view.apply(p, false)
		}
		perKey(b)
	})
}
