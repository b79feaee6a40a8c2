package group

import (
	"sync"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
)

// feedState is whether a partition is being fetched.
type feedState uint8

const (
	feedActive feedState = iota
	// feedPaused: nothing is fetched until Resume.
	feedPaused
	// feedLost: records were lost; an operator or the worker must decide where to continue.
	feedLost
	// feedStopped: the same bad batch came again and again.
	feedStopped
)

// chunk is a fetched run of proved batches that waits to be decoded.
type chunk struct {
	run                  []byte
	from, next           int64
	aborted              []recordbatch.Aborted
	lastStable, logStart int64
}

// feed is one partition on its path from the leader to the handler. Each group of fields has one guard.
type feed struct {
	part kafkalog.Partition

	// The fetcher's mutex guards this group.

	state feedState
	err   error // why it is not fetched just now; nil once a fetch went well
	node  int32 // the leader, -1 unknown
	epoch int32 // the leader's
	next  int64 // where the next fetch begins
	turn  int   // raised when next is set to another place: replies to requests of an earlier turn are dropped
	asked int   // the fetcher's turn of the last request for this feed, or for another stream that was as far
	queue []chunk
	held  int // bytes queued, or handed out and not yet released

	notBefore time.Time     // no fetch until then
	wait      time.Duration // the last wait of the backoff
	fetched   time.Time     // of the last good reply
	full      time.Time     // since when it holds its share; zero while it does not
	badAt     int64         // offset of a bad batch
	bad       int           // times that it was bad
	above     int           // times that next was above the log's end

	lastStable, logStart int64
	// highWater is the log's end, and openSince is since when lastStable has been below it without moving; zero while it is not.
	highWater int64
	openSince time.Time

	// The puller owns this group: the goroutine that has the feed (busy). restart changes it under the fetcher's mutex.

	dec       *recordbatch.Decoder // of the chunk that is being decoded
	cur       chunk
	charged   int   // bytes of cur that are in held
	delivered int64 // where the next batch begins

	// The session's mutex guards this group.

	queued  bool // in session.ready
	busy    bool // a writer has it
	paused  bool
	inEmit  int  // batches behind Apply
	blocked bool // there is something to pull, but emitDepth batches wait for Emit

	from, applied, emitted, committed int64

	workErr   error // of the handler; nil while it accepts batches
	restartAt int64 // ≥ 0: to be done when the writer is done with the feed

	// emit has the applied batches. It is set before the feed is shared.
	emit chan appliedBatch
}

const (
	firstWait = 100 * time.Millisecond
	lastWait  = 2 * time.Second
	// authWait is for errors that only a person can fix.
	authWait = 10 * time.Second
)

// backOff puts the next fetch off, twice as long each time.
func (d *feed) backOff(now time.Time, err error) {
	d.err = err
	d.wait = min(max(2*d.wait, firstWait), lastWait)
	d.notBefore = now.Add(d.wait)
}

// measure notes the bounds of the log as of a reply.
func (d *feed) measure(now time.Time, highWater, lastStable, logStart int64) {
	switch {
	case lastStable < 0 || highWater <= lastStable:
		d.openSince = time.Time{}
	case d.openSince.IsZero() || lastStable != d.lastStable:
		d.openSince = now
	}
	d.highWater, d.lastStable, d.logStart = highWater, lastStable, logStart
}

// restart drops what is queued and continues at offset. The puller's decoder must be idle.
func (d *feed) restart(offset int64) {
	for _, c := range d.queue {
		d.held -= len(c.run)
	}
	d.held -= d.charged
	d.queue, d.charged, d.cur = nil, 0, chunk{}
	if d.dec != nil {
		d.dec.Close()
		d.dec = nil
	}
	d.next, d.delivered = offset, offset
	d.turn++
}

// skip continues at a later offset, behind what is queued. The gap becomes a part of a batch, without records, so that
// ranges stay contiguous and the new offset is committed like any other.
func (d *feed) skip(to int64) {
	if to > d.next {
		d.queue = append(d.queue, chunk{from: d.next, next: to, lastStable: d.lastStable, logStart: d.logStart})
	}
	d.next = to
	d.turn++
}

// slabs are used again by batches; a released batch's records are cleared before.
type slabs struct{ pool sync.Pool }

func (p *slabs) get() *recordbatch.Slab {
	if s, ok := p.pool.Get().(*recordbatch.Slab); ok {
		return s
	}
	return new(recordbatch.Slab)
}

func (p *slabs) put(s *recordbatch.Slab) {
	s.Reset()
	p.pool.Put(s)
}

// pull decodes what is queued for a feed into one batch: several small fetches become one, a big one becomes several. It
// returns nil when nothing is queued. A record that cannot be decoded ends the batch before it and is fetched again.
func (f *fetcher) pull(d *feed, maxRecords, maxBytes int) *kafkalog.Batch {
	s := f.slabs.get()
	from, charge := d.delivered, 0
	next := from
	var lastStable, logStart int64
	for len(s.Records) < maxRecords && s.Bytes < maxBytes {
		if d.dec == nil && !f.open(d) {
			break
		}
		before := d.dec.Unfolded
		done, err := d.dec.Fill(s, maxRecords, maxBytes)
		charge += f.grow(d, d.dec.Unfolded-before)
		next = d.dec.Next
		lastStable, logStart = d.cur.lastStable, d.cur.logStart
		if err != nil {
			f.badRecord(d, next, err)
			break
		}
		if done {
			next = max(next, d.cur.next)
			charge += d.charged
			d.charged, d.cur, d.dec = 0, chunk{}, nil
		}
	}
	if next == from {
		f.slabs.put(s)
		f.release(d, charge)
		return nil
	}
	d.delivered = next
	return &kafkalog.Batch{
		Partition: d.part, From: from, Next: next, Records: s.Records, LastStable: lastStable, LogStart: logStart,
		Freed: func() {
			f.slabs.put(s)
			f.release(d, charge)
		},
	}
}

// open takes the next chunk of the queue.
func (f *fetcher) open(d *feed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(d.queue) == 0 {
		return false
	}
	d.cur = d.queue[0]
	d.queue = d.queue[1:]
	d.charged = len(d.cur.run)
	d.dec = recordbatch.NewDecoder(d.cur.run, d.delivered, d.cur.aborted)
	d.dec.Next = max(d.delivered, d.cur.from)
	d.dec.Limit = int64(max(f.share, leastWhole))
	return true
}

// grow charges what decompression added to a batch, which gives it back.
func (f *fetcher) grow(d *feed, n int) int {
	if n > 0 {
		f.mu.Lock()
		d.held += n
		f.mu.Unlock()
	}
	return n
}

func (f *fetcher) release(d *feed, n int) {
	if n == 0 {
		return
	}
	f.mu.Lock()
	d.held -= n
	f.wake()
	f.mu.Unlock()
}

// badRecord fetches again from offset, or stops the feed there.
func (f *fetcher) badRecord(d *feed, offset int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d.restart(offset)
	f.countBad(d, offset, err)
	f.wake()
}
