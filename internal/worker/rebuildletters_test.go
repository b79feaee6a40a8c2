package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/schemas"
)

// redriven inserts dead letters that were redriven: the first has offset from, keys and versions are theirs.
func (b *bed) redriven(from int, keys []string, version int64) {
	b.t.Helper()
	d := b.dataset("items")
	const one = "(?, ?, 0, 'items', ?, ?, 1, 'refused', '', ?, ?, ?, 100, 0, 'redriven', 0, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED))"
	for chunk := range slices.Chunk(keys, 500) {
		var args []any
		for _, key := range chunk {
			rec, err := d.Encode(&schemas.Event{
				ID: key, Source: "//test", Dataset: "items", Key: key, Op: schemas.Upsert, Version: version, Data: fmt.Appendf(nil, `{"id":%q,"n":1}`, key),
			})
			if err != nil {
				b.t.Fatal(err)
			}
			args = append(args, []byte("gone/x/0"), from, []byte(key), version, rec.Key, replica.EncodeHeaders(rec.Headers), rec.Value)
			from++
		}
		b.exec("INSERT INTO freshet_dead_letter (source, off, idx, dataset, record_key, version, op, reason, detail, kafka_key, headers, data, size, broker_at, state, created_at, updated_at) VALUES "+
			one+strings.Repeat(", "+one, len(chunk)-1), args...)
	}
}

// passes counts what each pass over redriven letters applied.
type passes struct {
	jobs.Redriven

	counts []int
	after  func(pass int)
}

func (p *passes) ApplyRedriven(ctx context.Context, d *schemas.Dataset, have *replica.Reapplied) (int, error) {
	n, err := p.Redriven.ApplyRedriven(ctx, d, have)
	p.counts = append(p.counts, n)
	p.after(len(p.counts))
	return n, err
}

// A dataset with more redriven letters than can be applied while live batches wait is rebuilt: they are applied before, and
// what was redriven meanwhile is in the new table too.
func TestRebuildWithManyRedrivenLetters(t *testing.T) {
	t.Parallel()
	const n = 12_000
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 10)
	b.awaitDone("items")
	keys := make([]string, 0, n)
	for i := range n - 1 {
		keys = append(keys, fmt.Sprint("r", i))
	}
	b.redriven(0, []string{"r7"}, 3) // before its older event
	b.redriven(1, keys, 2)
	p := &passes{}
	p.after = func(pass int) {
		if pass == 1 {
			b.redriven(n, []string{"meanwhile"}, 1)
		}
	}
	done, _ := b.rebuild(w, func(c *jobs.Config) { p.Redriven, c.Redriven = c.Replica, p }, nil)
	if done.State != jobstore.Done {
		t.Fatalf("rebuild: %s %q", done.State, done.Problem)
	}
	if len(p.counts) < 4 || p.counts[0] != n || p.counts[1] != 1 || slices.Max(p.counts[2:]) != 0 {
		t.Errorf("the passes applied %v letters; want %d, 1, and none while live batches wait or later", p.counts, n)
	}
	b.awaitRow("items", "r7", 3)
	b.awaitRow("items", "meanwhile", 1)
	if rows := b.count("items"); rows != 10+n-1+1 {
		t.Errorf("%d rows, want %d", rows, n+10)
	}
}
