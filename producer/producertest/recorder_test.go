package producertest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/producer/producertest"
	"github.com/freshet/freshet/schemas"
)

func recorder(t *testing.T) *producertest.Recorder {
	t.Helper()
	set, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	return producertest.New(t, set)
}

func deletion(key string, version int64) schemas.Event {
	return schemas.Event{Dataset: "users", Key: key, Op: schemas.Delete, Version: version}
}

func TestRecorderRemembers(t *testing.T) {
	r := recorder(t)
	first, err := r.Publish(t.Context(), deletion("1", 5), deletion("2", 5))
	if err != nil {
		t.Fatal(err)
	}
	var second schemas.Token
	err = r.PublishAsync(t.Context(), deletion("1", 6), func(tok schemas.Token, err error) {
		if err != nil {
			t.Error(err)
		}
		second = tok
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Events(); len(got) != 3 || got[0].ID == "" || got[0].ID == got[1].ID || got[0].Source != producer.DefaultSource {
		t.Errorf("events: %+v", got)
	}
	if got := r.Of("users", "1"); len(got) != 2 || got[1].Version != 6 {
		t.Errorf("events of 1: %+v", got)
	}
	for source, offset := range first.Offsets() {
		if offset != 1 || second.Offsets()[source] != 2 {
			t.Errorf("tokens %v and %v, want offsets 1 and 2", first.Offsets(), second.Offsets())
		}
	}
	r.Reset()
	if n := len(r.Events()); n != 0 {
		t.Errorf("%d events after Reset", n)
	}
}

func TestRecorderChecks(t *testing.T) {
	r := recorder(t)
	if _, err := r.Publish(t.Context(), deletion("1", 1), deletion("2", 0)); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("Publish: got %v", err)
	}
	err := r.PublishAsync(t.Context(), deletion("x", 1), func(schemas.Token, error) { t.Error("done was called") })
	if schemas.ReasonOf(err) != schemas.ReasonKey {
		t.Errorf("PublishAsync: got %v", err)
	}
	if n := len(r.Events()); n != 0 {
		t.Errorf("%d events were remembered", n)
	}
}

func TestRecorderFails(t *testing.T) {
	r := recorder(t)
	r.Fail(func(ev schemas.Event) error {
		if ev.Key == "2" {
			return producer.ErrOutcomeUnknown
		}
		return nil
	})
	tok, err := r.Publish(t.Context(), deletion("1", 1), deletion("2", 1))
	var pe *producer.PublishError
	if !errors.As(err, &pe) || !pe.Sent || len(pe.Events) != 1 || pe.Events[0].Index != 1 || !errors.Is(err, producer.ErrOutcomeUnknown) || tok.IsZero() {
		t.Errorf("got %v, %v", tok, err)
	}
	var got error
	if err := r.PublishAsync(t.Context(), deletion("2", 1), func(_ schemas.Token, err error) { got = err }); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(got, producer.ErrOutcomeUnknown) {
		t.Errorf("outcome: %v", got)
	}
	r.Fail(nil)
	if _, err := r.Publish(t.Context(), deletion("2", 1)); err != nil {
		t.Error(err)
	}
	if n := len(r.Events()); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Publish(ctx, deletion("1", 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
}
