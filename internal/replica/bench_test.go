package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
)

const (
	benchRows    = 50_000
	benchBatch   = 1000
	benchBatches = 16 // per connection and round
	benchRounds  = 5
)

// BenchmarkApply takes turns with the bare prepared upsert over rows that exist, 1000 a batch, and gives the median rates
// and the median of the rounds' ratios. Rates depend on the machine; the ratio hardly does.
func BenchmarkApply(b *testing.B) {
	for _, conns := range []int{1, 2, 4} {
		b.Run(fmt.Sprint("conns=", conns), func(b *testing.B) { benchApply(b, conns) })
	}
}

func benchApply(b *testing.B, conns int) {
	b.Helper()
	bed := newBed(b, replica.Config{MySQL: mysql.Config{Writers: conns, ReadConns: conns + 2}})
	ds, _ := bed.set.Get("items")
	claims := make([]replica.Claim, conns)
	for i := range claims {
		claims[i].Source = fmt.Sprint("freshet.items/bench/", i)
	}
	ps, err := bed.Positions.Take(b.Context(), group, "bench", 1, claims)
	if err != nil {
		b.Fatal(err)
	}
	version := int64(0)
	batch := func(ids []int) []*replica.Change {
		version++
		slices.Sort(ids)
		changes := make([]*replica.Change, 0, len(ids))
		for _, id := range ids {
			changes = append(changes, &replica.Change{
				Dataset: ds, Version: version, At: version, Offset: version,
				Values: []any{int64(id), version, fmt.Sprintf("name of %d at %d", id, version)},
			})
		}
		return changes
	}
	apply := func(ctx context.Context, all [][]*replica.Change) error {
		var g errgroup.Group
		for conn, p := range ps {
			g.Go(func() error {
				for i := conn; i < len(all); i += conns {
					if _, err := bed.Apply(ctx, &replica.Batch{Source: p.Source, Fence: p.Fence, Next: all[i][0].Version, Changes: all[i]}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	}
	bare := func(ctx context.Context, all [][]*replica.Change) error { return bed.BareUpserts(ctx, ds, all, conns) }
	measure := func(write func(context.Context, [][]*replica.Change) error) float64 {
		all := make([][]*replica.Change, benchBatches*conns)
		for i := range all {
			all[i] = batch(rand.Perm(benchRows)[:benchBatch])
		}
		began := time.Now()
		if err := write(b.Context(), all); err != nil {
			b.Fatal(err)
		}
		return float64(len(all)*benchBatch) / time.Since(began).Seconds()
	}
	var fill [][]*replica.Change
	for first := range benchRows / benchBatch {
		ids := make([]int, benchBatch)
		for i := range ids {
			ids[i] = first*benchBatch + i + 1
		}
		fill = append(fill, batch(ids))
	}
	if err := apply(b.Context(), fill); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var a, l, r []float64
		for range benchRounds {
			x, y := measure(apply), measure(bare)
			a, l, r = append(a, x), append(l, y), append(r, x/y)
		}
		b.ReportMetric(median(a), "apply-rows/s")
		b.ReportMetric(median(l), "bare-rows/s")
		b.ReportMetric(median(r), "ratio")
	}
	b.ReportMetric(0, "ns/op") // a round's time says nothing
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
