package worker

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strconv"
	"sync"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// DeadTopic is the topic that gets a copy of each dead letter of a topic, when that is asked for. Datasets that share a topic
// share it, too.
func DeadTopic(topic string) string { return schemas.KafkaTopic(topic) + ".dead" }

// maxUncopied is how many batches of a partition may wait for their letters' copies before no more is applied: what is
// applied is always emitted, whatever becomes of the copies.
const maxUncopied = 4

// copies are the letters of a partition that are in MySQL and not yet in the dead topic. No offset above the oldest is
// committed to Kafka.
type copies struct {
	mu      sync.Mutex // guards what follows
	waiting []letterCopies
	changed chan struct{} // closed and recreated when waiting gets shorter
}

// letterCopies are those of one batch.
type letterCopies struct {
	from    int64
	records []schemas.Record
}

func (c *copies) add(lc letterCopies) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, lc)
}

func (c *copies) first() (letterCopies, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return letterCopies{}, false
	}
	return c.waiting[0], true
}

func (c *copies) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = c.waiting[1:]
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// limit is the first offset that may not be committed yet.
func (c *copies) limit() int64 {
	if lc, ok := c.first(); ok {
		return lc.from
	}
	return math.MaxInt64
}

// room waits until not too many batches wait.
func (c *copies) room(ctx context.Context) error {
	for {
		c.mu.Lock()
		if len(c.waiting) < maxUncopied {
			c.mu.Unlock()
			return nil
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// copier copies dead letters to dead topics.
type copier struct {
	*core

	pauses *pauses
	soon   chan struct{} // one slot: letters wait to be copied
}

// addCopies notes the letters of a batch that was applied, before its offset can be committed.
func (c *copier) addCopies(p *partition, b *kafkalog.Batch, dead []*replica.Letter) {
	if !c.cfg.DeadTopics || len(dead) == 0 {
		return
	}
	lc := letterCopies{from: b.From}
	for _, l := range dead {
		lc.records = append(lc.records, letterCopy(p.source, l))
	}
	p.copies.add(lc)
	c.copySoon()
}

// Headers of a copy, beside those of the record itself.
const (
	headerDataset = "freshet-dataset"
	headerReason  = "freshet-reason"
	headerDetail  = "freshet-detail"
	headerErrno   = "freshet-errno"
	headerSource  = "freshet-source"
	headerOffset  = "freshet-offset"
	headerIndex   = "freshet-index"
	headerSize    = "freshet-size" // only of a record whose bytes are not in the copy
)

// letterCopy is the copy of a letter. It shares no memory with it. A record without a key is keyed by its source: a copy
// needs one.
func letterCopy(source string, l *replica.Letter) schemas.Record {
	var rec schemas.Record
	if l.Record != nil {
		rec = schemas.Record{Key: bytes.Clone(l.Record.Key), Value: bytes.Clone(l.Record.Value), Time: l.Record.Time}
		for _, h := range l.Record.Headers {
			rec.Headers = append(rec.Headers, schemas.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
	}
	if len(rec.Key) == 0 {
		rec.Key = []byte(source)
	}
	add := func(name, value string) {
		rec.Headers = append(rec.Headers, schemas.Header{Key: name, Value: []byte(value)})
	}
	add(headerDataset, l.Dataset)
	add(headerReason, string(l.Reason))
	add(headerDetail, l.Detail)
	if l.Errno != 0 {
		add(headerErrno, strconv.Itoa(int(l.Errno)))
	}
	add(headerSource, source)
	add(headerOffset, strconv.FormatInt(l.Offset, 10))
	add(headerIndex, strconv.Itoa(l.Index))
	if l.Record != nil && l.Record.Oversize > 0 {
		add(headerSize, strconv.Itoa(l.Record.Oversize))
	}
	return rec
}

// stripped is a copy that the dead topic does not take for its size, without its bytes.
func stripped(rec schemas.Record) schemas.Record {
	out := schemas.Record{Key: rec.Key, Time: rec.Time}
	for _, h := range rec.Headers {
		switch h.Key {
		case headerDataset, headerReason, headerDetail, headerErrno, headerSource, headerOffset, headerIndex, "ce_id":
			out.Headers = append(out.Headers, h)
		}
	}
	out.Headers = append(out.Headers, schemas.Header{Key: headerSize, Value: strconv.AppendInt(nil, int64(rec.Size()), 10)})
	return out
}

// copyLetters copies letters until ctx ends. Partitions do not wait for each other, so that a missing dead topic blocks
// its own dataset only.
func (c *copier) copyLetters(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.soon:
		}
		for _, p := range c.partitions() {
			if _, ok := p.copies.first(); ok && !p.copying.Swap(true) {
				all.Go(func() { c.copyPartition(ctx, p) })
			}
		}
	}
}

// copyPartition copies until nothing waits, or the partition is another's.
func (c *copier) copyPartition(ctx context.Context, p *partition) {
	what := "kafka: copy dead letters to topic " + DeadTopic(p.id.Topic)
	for ctx.Err() == nil && c.partition(p.id) == p {
		lc, ok := p.copies.first()
		if !ok {
			break
		}
		// An error is ctx's: everything else is waited out.
		err := retry.Do(ctx, tries(c.faults.hookIn(oneDataset, what)), func(ctx context.Context) error {
			if c.partition(p.id) != p {
				return nil // the next owner copies them
			}
			_, errs := c.out.ProduceAll(ctx, DeadTopic(p.id.Topic), lc.records)
			for i, err := range errs {
				if errors.Is(err, delivery.ErrTooLarge) {
					lc.records[i] = stripped(lc.records[i])
				}
			}
			return errors.Join(errs...)
		})
		if err != nil {
			break
		}
		c.faults.end(what)
		c.counts.deadCopies.Add(uint64(len(lc.records)))
		p.copies.done()
	}
	p.copying.Store(false)
	if _, ok := p.copies.first(); ok && ctx.Err() == nil {
		c.copySoon() // added since it was looked at
	}
}

func (c *copier) copySoon() {
	select {
	case c.soon <- struct{}{}:
	default:
	}
}
