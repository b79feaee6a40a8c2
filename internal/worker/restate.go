package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// Compaction keeps the last record of a key, not the one with the highest version. So when an event comes to a compacted
// topic that is older than its record's row, the row's state is published once more under its own version: it is then the
// last one. To every worker it is a repetition, so nothing follows from it; should the record have changed meanwhile, it is
// itself older than the row, and the newer state follows in turn. The offset of the late event is committed only after
// that, so a worker that dies in between leaves it to the next one.

const (
	// restateWindow bounds the offsets that are looked at when they come once more: what was delivered long ago was dealt
	// with then, and every one of its events would look late.
	restateWindow = 10_000
	// restateSource is the CloudEvents source of what is published again.
	restateSource = "//freshet/worker"
	// policyAge is how long a topic's cleanup policy is believed.
	policyAge = time.Minute
)

// restater publishes the newest state of records again where a compacted topic would keep an older one.
type restater struct {
	*core

	mu      sync.Mutex
	byTopic map[string]policy // which topics are compacted
}

type policy struct {
	compacted bool
	// denied is why the policy is not known: the worker may not ask for it.
	denied error
	at     time.Duration
}

// compacted asks Kafka at most once in policyAge. An error that wraps kafkalog.ErrDenied is remembered as well.
func (r *restater) compacted(ctx context.Context, topic string) (bool, error) {
	now := r.now()
	r.mu.Lock()
	known, ok := r.byTopic[topic]
	r.mu.Unlock()
	if ok && now-known.at < policyAge {
		return known.compacted, known.denied
	}
	is, err := r.cfg.Kafka.Compacted(ctx, topic)
	if errors.Is(err, kafkalog.ErrDenied) {
		r.log.Warn("the cleanup policy of a topic cannot be read: if it is compacted, it may keep an older state of a record than the newest", "topic", topic, "error", err)
	} else if err != nil {
		return false, err //nolint:wrapcheck // it states what it did
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byTopic[topic] = policy{compacted: is, denied: err, at: now}
	return is, err //nolint:wrapcheck // as above
}

// errPartial is why a row is not what its event was.
var errPartial = errors.New("its row may lack properties of its event")

// partial returns errPartial with the reason if rows of a partition may lack properties that their events had. Published
// again under the event's version, such a row would take the properties out of the topic.
func (r *restater) partial(ctx context.Context, p *partition) (partial, err error) {
	if p.unnamed.Load() {
		return fmt.Errorf("%w: events have some that the schema does not have", errPartial), nil
	}
	unknown, err := r.cfg.Replica.Declarations.UnknownProperties(ctx, p.dataset)
	if err != nil || len(unknown) == 0 {
		return nil, err //nolint:wrapcheck // it states what it did
	}
	return fmt.Errorf("%w: the registered schema has some that this program's does not: %s", errPartial, strings.Join(unknown, ", ")), nil
}

// restate publishes the rows of records whose last event of a batch was older. from is the batch's first offset.
func (r *restater) restate(ctx context.Context, p *partition, from int64, keys []string) error {
	d := p.dataset
	if len(keys) == 0 || d.Format != schemas.FormatCloudEvents || d.Version.Kind != schemas.VersionEvent || p.fresh-from > restateWindow {
		return nil
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	what := "kafka and mysql: publish the newest state of records in topic " + d.Topic
	err := retry.Do(ctx, tries(r.faults.hookIn(oneDataset, what)), func(ctx context.Context) error {
		is, err := r.compacted(ctx, d.Topic)
		if errors.Is(err, kafkalog.ErrDenied) {
			r.counts.unrestated.Add(uint64(len(keys)))
			return nil
		}
		if err != nil || !is {
			return err
		}
		records, err := r.states(ctx, p, keys)
		if err != nil {
			return err
		}
		_, errs := r.out.ProduceAll(ctx, d.Topic, records)
		for i, err := range errs {
			// The worker may not write to the topic, or the state is too large for it: waiting changes neither.
			if errors.Is(err, delivery.ErrTooLarge) || errors.Is(err, delivery.ErrRefused) {
				r.counts.unrestated.Add(1)
				r.log.Warn("the newest state of a record is refused by Kafka: the compacted topic keeps an older one", "topic", d.Topic, "error", err)
				errs[i] = nil
			} else if err == nil {
				r.counts.restated.Add(1)
			}
		}
		return errors.Join(errs...)
	})
	if err == nil {
		r.faults.end(what)
	}
	return err
}

// states reads rows and makes their events. A row of which none can be made is counted and left out.
func (r *restater) states(ctx context.Context, p *partition, keys []string) (records []schemas.Record, err error) {
	partial, err := r.partial(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		row, err := r.cfg.Replica.Rows.Current(ctx, p.dataset, key)
		if err != nil {
			return nil, err //nolint:wrapcheck // it states what it did
		}
		rec, err := stateOf(p.dataset, key, row)
		if partial != nil && !row.Deleted {
			err = partial
		}
		if err != nil {
			r.counts.unrestated.Add(1)
			r.log.Warn("the newest state of a record cannot be published again: the compacted topic keeps an older one", "dataset", p.dataset.Name, "error", err)
			continue
		}
		records = append(records, rec)
	}
	return records, nil
}

// stateOf makes the event of a row.
func stateOf(d *schemas.Dataset, key string, row replica.Row) (schemas.Record, error) {
	ev := schemas.Event{
		ID:     uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%s@%d", d.Name, key, row.Version)).String(),
		Source: restateSource, Dataset: d.Name, Key: key, Op: schemas.Delete, Version: row.Version,
	}
	if !row.Deleted {
		ev.Op = schemas.Upsert
		var err error
		if ev.Data, err = d.AppendState(nil, nil, row.Values); err != nil {
			return schemas.Record{}, err //nolint:wrapcheck // it states the property
		}
		if _, err = d.Check(&ev); err != nil {
			return schemas.Record{}, err //nolint:wrapcheck // as above
		}
	}
	return d.Encode(&ev) //nolint:wrapcheck // it states what it did
}
