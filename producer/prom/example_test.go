package prom_test

import (
	"fmt"
	"testing/fstest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/producer/prom"
	"github.com/freshet/freshet/schemas"
)

func ExampleNewCollector() {
	datasets, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\ntopic: shop.items\nschema: items.json\nkey: [id]\nreplica: {table: items}\n")},
		"items.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}`)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := producer.New(producer.Config{Brokers: []string{"127.0.0.1:9092"}, Datasets: datasets})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prom.NewCollector(p))
	families, err := reg.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(families[0].GetName(), families[0].GetMetric()[0].GetCounter().GetValue())
	// Output: freshet_producer_batches_total 0
}
