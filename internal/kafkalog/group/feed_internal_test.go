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

// A stream that is far behind, and whose writer is never slower than the broker, and one at the end ask in turn: neither waits for
// the other. The request at the end does not wait for new records meanwhile.
func TestStreamsAskInTurn(t *testing.T) {
	var starts []Start
	for topic, at := range map[string]int64{"t#end": 1000, "t#behind": 0, "t#level": 0} {
		starts = append(starts, Start{Partition: kafkalog.Partition{Topic: topic}, Offset: at})
	}
	f := newFetcher(&kafkalog.Client{}, 1<<20, starts)
	for _, d := range f.feeds {
		d.node = 1
	}
	places := map[int64]int{}
	for range 10 {
		r := f.pick(1)
		if len(r.wants) != 1 {
			t.Fatalf("a request asks for %d streams of one partition", len(r.wants))
		}
		at := r.wants[0].Offset
		if places[at]++; at == 1000 && r.wait != 0 {
			t.Errorf("the request at the end waits %s while another stream is behind", r.wait)
		}
	}
	if places[0] != 5 || places[1000] != 5 {
		t.Errorf("10 requests ask by offset %v, want five for each", places)
	}
}
