package invalidation_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
)

// BenchmarkHit compares a local hit, with all that makes it safe, with the bare store that it is built on, and with that
// store and one look at the clock: less is not to be had, since an entry is served only while its lane's proof is young, and
// nothing but the clock knows how long a process was stopped. All look up the same keys; x-bare is what the guarantees cost.
func BenchmarkHit(b *testing.B) {
	const records = 1024
	r := withLane(b)
	for i := range records {
		r.db.change(strconv.Itoa(i), false)
	}
	c := r.cache(r.join(invalidation.Config{}))
	bare := otter.Must(&otter.Options[string, *row]{MaximumSize: invalidation.DefaultMaxEntries})
	keys, names := make([]string, records), make([]string, records)
	for i := range records {
		keys[i] = strconv.Itoa(i)
		names[i] = fmt.Sprintf("user:%d", i)
		bare.Set(names[i], &row{})
		wantGet(b, c, keys[i], keys[i]+"@1")
	}
	var plain, safe float64
	b.Run("bare store", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, ok := bare.GetIfPresent(names[i%records]); !ok {
				b.Fatal("miss")
			}
		}
		plain = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	})
	b.Run("bare store and clock", func(b *testing.B) {
		began := time.Now()
		for i := 0; b.Loop(); i++ {
			if _, ok := bare.GetIfPresent(names[i%records]); !ok || time.Since(began) < 0 {
				b.Fatal("miss")
			}
		}
		if plain > 0 {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/plain, "x-bare")
		}
	})
	b.Run("cache", func(b *testing.B) {
		b.ReportAllocs()
		ctx := b.Context()
		for i := 0; b.Loop(); i++ {
			if _, err := c.Get(ctx, keys[i%records]); err != nil {
				b.Fatal(err)
			}
		}
		safe = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
		if plain > 0 {
			b.ReportMetric(safe/plain, "x-bare")
		}
	})
}

// BenchmarkGetMany is one record of a hundred that are all in this process, or that are loaded together and stored.
func BenchmarkGetMany(b *testing.B) {
	r := withLane(b)
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
		r.db.change(keys[i], false)
	}
	n := r.join(invalidation.Config{})
	loads := &batches{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LoadMany: loads.load})
	perKey := func(b *testing.B) {
		b.Helper()
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/key")
	}
	get := func(b *testing.B) {
		b.Helper()
		if got, err := c.GetMany(b.Context(), keys); err != nil || len(got) != len(keys) {
			b.Fatalf("%d records, %v", len(got), err)
		}
	}
	b.Run("hits", func(b *testing.B) {
		get(b)
		b.ReportAllocs()
		for b.Loop() {
			get(b)
		}
		perKey(b)
	})
	b.Run("fills", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			check(b, r.rdb.FlushDB(b.Context()).Err())
			r.setRoot(r.hashes())
			r.current(n)
			b.StartTimer()
			get(b)
		}
		perKey(b)
	})
}

// BenchmarkMiss is a record that has to be loaded: by a cache without a shared tier, and by one whose Redis is on this
// machine, or as far away as in another zone.
func BenchmarkMiss(b *testing.B) {
	load := func(context.Context, string, invalidation.Source) (invalidation.Loaded[string], error) {
		return invalidation.Loaded[string]{Value: "v", Version: 1, Found: true, From: invalidation.Primary}, nil
	}
	r := withLane(b)
	next := 0 // no key twice, however often a benchmark begins
	misses := func(b *testing.B, c *invalidation.Cache[string]) {
		b.Helper()
		ctx := b.Context()
		b.ReportAllocs()
		for b.Loop() {
			next++
			if _, err := c.Get(ctx, strconv.Itoa(next)); err != nil {
				b.Fatal(err)
			}
		}
	}
	alone := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{LocalOnly: true, MaxEntries: 1000, Load: load})
	b.Run("local only", func(b *testing.B) { misses(b, alone) })
	for name, delay := range map[string]time.Duration{"shared": 0, "shared, 2 ms away": time.Millisecond} {
		p := testenv.NewProxy(b, r.server.Addr)
		p.Delay(delay)
		r := withLane(b)
		n := r.joinBy(r.clientOf(&redis.Options{Addr: p.Addr}), invalidation.Config{})
		r.current(n)
		c := r.cacheOf(n, invalidation.CacheConfig[string]{MaxEntries: 1000, Load: load})
		b.Run(name, func(b *testing.B) { misses(b, c) })
	}
}
