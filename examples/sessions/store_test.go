package main

import (
	"context"
	"errors"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// deaf refuses the first events that it is given.
type deaf struct {
	refuse int
	took   []schemas.Event
}

func (d *deaf) Publish(_ context.Context, events ...schemas.Event) (schemas.Token, error) {
	if d.refuse > 0 {
		d.refuse--
		return schemas.Token{}, errors.New("Kafka is away")
	}
	d.took = append(d.took, events...)
	return schemas.Token{}, nil
}

// An end that could not be published can be asked for again, until it is.
func TestEndOfASessionIsNotLost(t *testing.T) {
	my := testenv.MySQL(t)
	db := my.Open(t, my.NewDatabase(t))
	if _, err := db.ExecContext(t.Context(), ownTable); err != nil {
		t.Fatal(err)
	}
	kafka := &deaf{}
	s := &store{own: db, publisher: kafka}
	v, _, err := s.create(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	kafka.refuse = 1
	if _, err := s.end(t.Context(), v.ID); err == nil {
		t.Error("an end that no one took is answered")
	}
	if _, err := s.end(t.Context(), v.ID); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if last := kafka.took[len(kafka.took)-1]; last.Op != schemas.Delete || last.Version != 2 {
		t.Errorf("published: %+v", last)
	}
	if _, err := s.end(t.Context(), v.ID); !errors.Is(err, invalidation.ErrNotFound) {
		t.Errorf("after that: %v", err)
	}
}
