package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
)

const (
	benchRows  = 50_000
	benchBatch = 1000
)

// BenchmarkApply updates rows that exist, 1000 a batch.
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
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		all := make([][]*replica.Change, conns)
		for i := range all {
			all[i] = batch(rand.Perm(benchRows)[:benchBatch])
		}
		if err := apply(b.Context(), all); err != nil {
			b.Fatal(err)
		}
		rows += conns * benchBatch
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
