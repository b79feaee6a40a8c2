package invalidation_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/maypok86/otter/v2"

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
