// Package producertest has a recorder that stands for a producer in tests of services: the same methods and the same
// checks, and no Kafka.
//
// A service names what it needs of a producer, for example
//
//	type publisher interface {
//		Publish(ctx context.Context, events ...schemas.Event) (schemas.Token, error)
//	}
//
// and its tests give it a Recorder instead:
//
//	rec := producertest.New(t, datasets)
//	svc := NewService(db, rec)
//	...
//	if got := rec.Events(); len(got) != 1 || got[0].Key != "42" { ... }
package producertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// topicID is in the tokens of a Recorder where the cluster's topic id would.
const topicID = "AAAAAAAAAAAAAAAAAAAAAA"

// Recorder takes events as a Producer does and remembers them. It is safe for concurrent use.
type Recorder struct {
	check *producer.Checker
	sets  *schemas.Datasets

	mu      sync.Mutex // guards all below
	events  []schemas.Event
	offsets map[string]int64 // next per topic
	fail    func(schemas.Event) error
}

// New makes a Recorder for the datasets. It ends the test when a producer would refuse them.
func New(t testing.TB, datasets *schemas.Datasets) *Recorder {
	t.Helper()
	r, err := NewRecorder(datasets)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// NewRecorder is New outside of a test.
func NewRecorder(datasets *schemas.Datasets) (*Recorder, error) {
	check, err := producer.NewChecker(datasets, "")
	if err != nil {
		return nil, fmt.Errorf("make recorder: %w", err)
	}
	return &Recorder{check: check, sets: datasets, offsets: map[string]int64{}}, nil
}

// Fail lets every event that follows fail with what fail returns for it; nil lets the event through, and a nil fail all of
// them. Return producer.ErrOutcomeUnknown, for example, to see what a service makes of it.
func (r *Recorder) Fail(fail func(schemas.Event) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

// Publish checks the events as Producer.Publish does and remembers them.
func (r *Recorder) Publish(ctx context.Context, events ...schemas.Event) (schemas.Token, error) {
	whole, err := r.check.Check(events...)
	if err != nil {
		return schemas.Token{}, err
	}
	var tok schemas.Token
	var failed []*producer.EventError
	for i := range whole {
		t, err := r.record(ctx, whole[i])
		if err != nil {
			failed = append(failed, &producer.EventError{Index: i, Dataset: whole[i].Dataset, Err: err})
			continue
		}
		tok = tok.Merge(t)
	}
	if len(failed) > 0 {
		return tok, &producer.PublishError{Sent: true, Events: failed}
	}
	return tok, nil
}

// PublishAsync checks the event as Producer.PublishAsync does, remembers it and calls done before it returns.
func (r *Recorder) PublishAsync(ctx context.Context, event schemas.Event, done func(schemas.Token, error)) error {
	whole, err := r.check.Check(event)
	if err != nil {
		var all *producer.PublishError
		if errors.As(err, &all) {
			err = all.Events[0].Err
		}
		return fmt.Errorf("publish event of dataset %s: %w", event.Dataset, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish event of dataset %s: %w", event.Dataset, err)
	}
	tok, err := r.record(ctx, whole[0])
	if done != nil {
		done(tok, err)
	}
	return nil
}

// record appends one event.
func (r *Recorder) record(ctx context.Context, ev schemas.Event) (schemas.Token, error) {
	if err := ctx.Err(); err != nil {
		return schemas.Token{}, fmt.Errorf("publish: %w", err)
	}
	d, _ := r.sets.Get(ev.Dataset)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(ev); err != nil {
			return schemas.Token{}, err
		}
	}
	r.events = append(r.events, ev)
	offset := r.offsets[d.Topic]
	r.offsets[d.Topic]++
	return schemas.NewToken(schemas.SourceName(d.Topic, topicID, 0), offset), nil
}

// Flush has nothing to wait for.
func (r *Recorder) Flush(context.Context) error { return nil }

// Close has nothing to close.
func (r *Recorder) Close() error { return nil }

// Events returns what was published so far, in order, each with its id and source.
func (r *Recorder) Events() []schemas.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Of returns the events of one dataset and key, in order.
func (r *Recorder) Of(dataset, key string) []schemas.Event {
	return slices.DeleteFunc(r.Events(), func(ev schemas.Event) bool { return ev.Dataset != dataset || ev.Key != key })
}

// Reset forgets the events.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}
