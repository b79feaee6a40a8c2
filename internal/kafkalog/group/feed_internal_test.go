package group

import (
	"testing"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/schemas"
)

// What a compressed batch unfolds to is charged to the budget, and a batch far above a partition's share is not unfolded at once.
func TestPullUnfoldsWithinTheShare(t *testing.T) {
	const each, share = 100_000, 256 << 10
	e := recordbatch.Encoder{Codec: recordbatch.CompressionZstd}
	e.Begin()
	for range 100 {
		e.Add(&schemas.Record{Key: []byte("k"), Value: make([]byte, each)}, 0)
	}
	set, err := e.Finish(recordbatch.Producer{})
	if err != nil {
		t.Fatal(err)
	}
	run := set[4:] // behind the length of the set
	f := newFetcher(&kafkalog.Client{}, share, []Start{{Partition: kafkalog.Partition{Topic: "t"}}})
	d := f.feeds[0]
	d.queue, d.held = []chunk{{run: run, next: 100}}, len(run)
	got := 0
	for b := f.pull(d, 1000, share); b != nil; b = f.pull(d, 1000, share) {
		if d.held < len(b.Records)*each || d.held > share+2*each+len(run) {
			t.Fatalf("%d bytes are held for %d records of a batch of %d bytes, with a share of %d", d.held, len(b.Records), 100*each, share)
		}
		got += len(b.Records)
		b.Release()
	}
	if got != 100 || d.held != 0 {
		t.Errorf("%d of 100 records; %d bytes are held behind the last", got, d.held)
	}
}
