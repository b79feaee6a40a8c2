package consumer_test

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/schemas"
)

// New checks the configuration and connects to nothing. Run, with the context of the program, waits for the servers and works until
// the context ends; NotReady is for the program's readiness.
func ExampleNew() {
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		panic(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()
	w, err := consumer.New(consumer.Config{
		Datasets:  datasets,
		Namespace: "shop",
		Kafka: consumer.Kafka{
			Brokers: []string{"127.0.0.1:9092"},
			SASL:    consumer.SASL{Mechanism: "scram-sha-256", User: "shop", Password: "secret"},
		},
		MySQL: consumer.MySQL{DSN: "shop:secret@tcp(127.0.0.1:3306)/shop"},
		Redis: rdb,
	})
	if err != nil {
		panic(err)
	}
	defer w.Close()
	fmt.Println(w.NotReady())

	_, err = consumer.New(consumer.Config{Datasets: datasets, Redis: rdb})
	fmt.Println(err)
	// Output:
	// [this worker is starting]
	// make worker: configuration: MySQL.DSN is missing; give user:password@tcp(host:3306)/database
}
