package producer_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// exampleProducer opens a producer of the shop's datasets on an embedded Kafka. close ends both.
func exampleProducer() (p *producer.Producer, closeAll func()) {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "freshet.users", "freshet.products", schemas.InvalidationTopic("shop")))
	if err != nil {
		panic(err)
	}
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		panic(err)
	}
	p, err = producer.New(producer.Config{Brokers: kafka.ListenAddrs(), Datasets: datasets, Source: "//shop/db"})
	if err != nil {
		panic(err)
	}
	return p, func() {
		_ = p.Close()
		kafka.Close()
	}
}

// Publish returns when Kafka has the event. A reader passes the token to WaitFor of its node.
func ExampleProducer_Publish() {
	p, closeAll := exampleProducer()
	defer closeAll()
	tok, err := p.Publish(context.Background(), schemas.Event{
		Dataset: "users", Key: "42", Op: schemas.Upsert, Version: 8, Data: []byte(`{"id":42,"email":"ada@example.org","name":"Ada"}`),
	})
	fmt.Println(len(tok.Offsets()), "partition,", err)
	// Output: 1 partition, <nil>
}

// PublishAsync queues events; each calls back when Kafka has it. Tokens of several events merge into one.
func ExampleProducer_PublishAsync() {
	p, closeAll := exampleProducer()
	defer closeAll()
	ctx := context.Background()
	outcomes := make(chan schemas.Token, 3)
	for version := range int64(3) {
		err := p.PublishAsync(ctx, schemas.Event{Dataset: "users", Key: "42", Op: schemas.Delete, Version: version + 1},
			func(tok schemas.Token, err error) {
				if err != nil {
					fmt.Println(err)
				}
				outcomes <- tok
			})
		if err != nil {
			fmt.Println(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		fmt.Println(err)
	}
	var all schemas.Token
	for range 3 {
		all = all.Merge(<-outcomes)
	}
	for _, offset := range all.Offsets() {
		fmt.Println("the newest event has offset", offset)
	}
	// Output: the newest event has offset 2
}

// Check refuses what Publish would refuse, and completes an event, without sending it.
func ExampleProducer_Check() {
	p, closeAll := exampleProducer()
	defer closeAll()
	_, err := p.Check(schemas.Event{Dataset: "users", Key: "42", Op: schemas.Upsert, Version: 8, Data: []byte(`{"id":42,"name":"Ada"}`)})
	fmt.Println(schemas.ReasonOf(err))
	whole, err := p.Check(schemas.Event{Dataset: "users", Key: "42", Op: schemas.Delete, Version: 8})
	fmt.Println(whole[0].Source, whole[0].ID != "", err)
	// Output:
	// schema
	// //shop/db true <nil>
}

// Invalidate makes cached entries stale without an event, for example after a change that no dataset covers.
func ExampleProducer_Invalidate() {
	p, closeAll := exampleProducer()
	defer closeAll()
	tok, err := p.Invalidate(context.Background(), "shop", []string{"user:42"}, nil)
	fmt.Println(tok.IsZero(), err)
	// Output: false <nil>
}
