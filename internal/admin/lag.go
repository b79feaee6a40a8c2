package admin

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"sort"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/pulse"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/roster"
	"github.com/freshet/freshet/schemas"
)

const (
	lagReaders = 8
	lagWait    = 2 * time.Second
	// lagTopicWait bounds the questions about one topic: a partition may have no leader.
	lagTopicWait = 5 * time.Second
)

// looks remembers how far partitions were, to tell rates.
type looks struct {
	mu sync.Mutex
	at map[string]look
}

type look struct {
	at   time.Time
	done int64
	rate float64
}

// rate notes how far source is and returns records a second since the look before; 0 if that is not known.
func (l *looks) rate(source string, done int64, now time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[string]look{}
	}
	old, ok := l.at[source]
	switch {
	case !ok || done < old.done:
		l.at[source] = look{at: now, done: done}
		return 0
	case now.Sub(old.at) < time.Second:
		return old.rate
	}
	r := float64(done-old.done) / now.Sub(old.at).Seconds()
	l.at[source] = look{at: now, done: done, rate: r}
	return r
}

// lagReader measures how far each partition is.
type lagReader struct {
	datasets *schemas.Datasets
	group    string
	kafka    *kafkalog.Client
	looks    *looks
	log      *slog.Logger
	db       *replica.DB // this and the next are set by Server.bind
	sql      *sql.DB
}

// read asks Kafka for ends and commits, MySQL for owners, and workers for their troubles.
func (lr *lagReader) read(ctx context.Context) ([]api.Partition, error) {
	var topics []string
	for _, d := range lr.datasets.All() {
		topics = append(topics, d.Topic)
	}
	committed, err := lr.kafka.CommittedOffsets(ctx, lr.group, topics)
	if err != nil {
		return nil, err
	}
	workers, err := roster.Workers(ctx, lr.sql)
	if err != nil {
		return nil, err
	}
	pauses, err := lr.db.Pauses.All(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Partition{}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lagReaders)
	for _, d := range lr.datasets.All() {
		g.Go(func() error {
			parts, err := lr.topic(gctx, d, committed[d.Topic])
			if err != nil {
				return err
			}
			var pause *api.Pause
			if p, ok := pauses[d.Name]; ok {
				noted := api.Pause(p)
				pause = &noted
			}
			for i := range parts {
				parts[i].Paused = pause != nil
				parts[i].Waits = pulse.WaitOf(&parts[i], pause, owner(&parts[i], workers))
			}
			mu.Lock()
			out = append(out, parts...)
			mu.Unlock()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Topic != out[j].Topic {
			return out[i].Topic < out[j].Topic
		}
		return out[i].Partition < out[j].Partition
	})
	return out, nil
}

// topic returns the lag of each partition of a dataset's topic. A topic that cannot be read becomes one line with the reason: the
// other topics have theirs.
func (lr *lagReader) topic(ctx context.Context, d *schemas.Dataset, committed map[int32]int64) ([]api.Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, lagTopicWait)
	defer cancel()
	info, err := lr.kafka.Topic(ctx, d.Topic)
	var ends map[int32]kafkalog.Offsets
	if err == nil {
		ends, err = lr.kafka.Offsets(ctx, d.Topic)
	}
	if err != nil {
		none := api.Partition{Dataset: d.Name, Topic: d.Topic, Partition: -1, First: -1, End: -1, Committed: -1, Position: -1, Error: err.Error()}
		if noTopic(err) {
			none.Error = "the topic does not exist; " + kafkalog.MissingTopicFix(d.Format) + ", or remove the dataset"
		}
		return []api.Partition{none}, nil
	}
	positions, err := lr.positions(ctx, &info, ends)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var out []api.Partition
	for id, o := range ends {
		p := api.Partition{Dataset: d.Name, Topic: d.Topic, Partition: id, First: o.First, End: o.LastStable, Committed: -1, Position: -1}
		if at, ok := positions[(&kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: id}).Source()]; ok {
			p.Position = at
		}
		at := o.First
		if c, ok := committed[id]; ok {
			p.Committed, at = c, max(c, o.First)
		}
		p.Records = max(0, o.LastStable-at)
		part := kafkalog.Partition{Topic: d.Topic, TopicID: info.ID, ID: id}
		rate := lr.looks.rate(part.Source(), at, now)
		if p.Records > 0 {
			p.Seconds = lr.waited(ctx, part, at, o.LastStable, now)
			if rate > 0 {
				eta := float64(p.Records) / rate
				p.ETA = &eta
			}
		}
		if p.Held = o.HighWater - o.LastStable; p.Held > 0 {
			p.Transaction = lr.openTransaction(ctx, d.Topic, id)
		}
		out = append(out, p)
	}
	return out, nil
}

// positions returns how far the replica is, by source.
func (lr *lagReader) positions(ctx context.Context, info *kafkalog.TopicInfo, ends map[int32]kafkalog.Offsets) (map[string]int64, error) {
	sources := make([]string, 0, len(ends))
	for id := range ends {
		sources = append(sources, (&kafkalog.Partition{Topic: info.Name, TopicID: info.ID, ID: id}).Source())
	}
	found, err := lr.db.Positions.Of(ctx, sources, false)
	out := make(map[string]int64, len(found))
	for _, at := range found {
		out[at.Source] = at.Next
	}
	return out, err
}

func (lr *lagReader) openTransaction(ctx context.Context, topic string, id int32) *api.Transaction {
	open, err := lr.kafka.OpenTransactions(ctx, topic)
	if err != nil {
		lr.log.Debug("producers of a partition are not known", "topic", topic, "partition", id, "error", err)
	}
	t, ok := open[id]
	if !ok {
		return nil
	}
	return &api.Transaction{ProducerID: t.ProducerID, First: t.First, LastWrite: t.LastWrite}
}

// waited is how long the first record that is not done has been in Kafka; 0 when there is none after all.
func (lr *lagReader) waited(ctx context.Context, p kafkalog.Partition, from, until int64, now time.Time) float64 {
	ctx, cancel := context.WithTimeout(ctx, lagWait)
	defer cancel()
	r := kafkalog.NewReader(lr.kafka, p, from, kafkalog.ReaderConfig{Until: until, MaxRecords: 1, MaxFetchBytes: 64 << 10, FetchWait: 100 * time.Millisecond})
	defer r.Close()
	for {
		b, err := r.Read(ctx)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				lr.log.Debug("oldest record of a lagging partition cannot be read", "topic", p.Topic, "partition", p.ID, "error", err)
			}
			return 0
		}
		if len(b.Records) > 0 {
			at := b.Records[0].Time
			b.Release()
			return max(0, now.Sub(time.UnixMilli(at)).Seconds())
		}
		b.Release()
	}
}

// owner adds what the worker that has the partition says of it, and returns that worker; nil: none has it.
func owner(p *api.Partition, workers []api.WorkerState) (of *api.WorkerState) {
	for i := range workers {
		w := &workers[i]
		for _, wp := range w.Partitions {
			if wp.Topic != p.Topic || wp.Partition != p.Partition || p.Alive && !w.Alive {
				continue
			}
			of, p.Owner, p.Alive, p.Error = w, w.Owner, w.Alive, wp.Error
			if wp.Stopped && p.Error == "" {
				p.Error = "the partition is stopped; /readyz of its worker reports why"
			}
		}
	}
	return of
}
