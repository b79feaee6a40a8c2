package producer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/producer/producertest"
	"github.com/freshet/freshet/schemas"
)

// publisher is what the example's service needs of a producer.
type publisher interface {
	Publish(ctx context.Context, events ...schemas.Event) (schemas.Token, error)
}

var (
	_ publisher = (*producer.Producer)(nil)
	_ publisher = (*producertest.Recorder)(nil)
)

// rename is a service's function: it changes a row and then reports what the record has become.
func rename(ctx context.Context, p publisher, id int, version int64, name string) error {
	body := fmt.Sprintf(`{"id":%d,"email":"ada@example.org","name":%q}`, id, name)
	_, err := p.Publish(ctx, schemas.Event{
		Dataset: "users", Key: fmt.Sprint(id), Op: schemas.Upsert, Version: version, Data: []byte(body),
	})
	return err
}

func Example() {
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		panic(err)
	}
	// In production: producer.New(producer.Config{Brokers: brokers, Datasets: datasets, Source: "//shop/db"})
	p, err := producertest.NewRecorder(datasets)
	if err != nil {
		panic(err)
	}
	if err := rename(context.Background(), p, 42, 8, "Ada"); err != nil {
		panic(err)
	}
	for _, ev := range p.Events() {
		fmt.Println(ev.Dataset, ev.Key, ev.Op, ev.Version, string(ev.Data))
	}
	// Output: users 42 upsert 8 {"id":42,"email":"ada@example.org","name":"Ada"}
}

func ExamplePublishError() {
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		panic(err)
	}
	p, err := producertest.NewRecorder(datasets)
	if err != nil {
		panic(err)
	}
	_, err = p.Publish(context.Background(),
		schemas.Event{Dataset: "users", Key: "1", Op: schemas.Delete, Version: 3},
		schemas.Event{Dataset: "users", Key: "2", Op: schemas.Delete}, // its version is missing
	)
	var pe *producer.PublishError
	if errors.As(err, &pe) {
		for _, e := range pe.Events {
			var field *schemas.FieldError
			if errors.As(e, &field) {
				fmt.Println(e.Index, field.Field, field.Reason)
			}
		}
	}
	fmt.Println(len(p.Events()), "published")
	// Output:
	// 1 version version
	// 0 published
}
