package schemas_test

import (
	"fmt"
	"testing/fstest"

	"github.com/freshet/freshet/schemas"
)

func exampleOrders() *schemas.Dataset {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"orders.yaml": {Data: []byte(`dataset: orders
schema: orders.json
key: [shop, number]
cache:
  key: "order:{shop}:{number}"
  derived: ["invoice:{invoice}"]
  tags: ["customer:{customer}"]
`)},
		"orders.json": {Data: []byte(`{"type":"object","required":["shop","number"],"properties":{
			"shop":{"type":"string","maxLength":8},"number":{"type":"integer"},"invoice":{"type":"string","maxLength":20},"customer":{"type":"integer"}}}`)},
	})
	if err != nil {
		panic(err)
	}
	orders, _ := set.Get("orders")
	return orders
}

// The key of a record with several key properties is their values, joined by commas.
func ExampleDataset_FormatKey() {
	orders := exampleOrders()
	key, err := orders.FormatKey("a,b", 1001)
	fmt.Println(key, err)
	values, err := orders.ParseKey(key)
	fmt.Println(values, err)
	// Output:
	// a%2Cb,1001 <nil>
	// [a,b 1001] <nil>
}

// A derived template is another way to look records up. Its name is what an invalidation states.
func ExampleDataset_Derived() {
	byInvoice, err := exampleOrders().Derived("invoice:{invoice}")
	if err != nil {
		panic(err)
	}
	key, _ := byInvoice.FormatKey("2026-17")
	name, err := byInvoice.Name(key)
	fmt.Println(name, err)
	// Output: invoice:2026-17 <nil>
}

// Tag makes the label that a loader gives an entry which depends on all orders of a customer.
func ExampleDataset_Tag() {
	tag, err := exampleOrders().Tag("customer:{customer}", 7)
	fmt.Println(tag, err)
	// Output: customer:7 <nil>
}

// Decode reads what Encode wrote, as a consumer in another program does.
func ExampleDataset_Decode() {
	users, _ := exampleDatasets().Get("users")
	record, err := users.Encode(&schemas.Event{
		ID: "e1", Source: "//shop/db", Dataset: "users", Key: "42", Op: schemas.Upsert, Version: 7, Data: []byte(`{"id":42,"name":"Ada"}`),
	})
	if err != nil {
		panic(err)
	}
	events, err := users.Decode(record)
	if err != nil {
		panic(err)
	}
	fmt.Println(events[0].Key, events[0].Op, events[0].Version, string(events[0].Data))
	// Output: 42 upsert 7 {"id":42,"name":"Ada"}
}

// A topic belongs to one dataset.
func ExampleDatasets_ByTopic() {
	users, ok := exampleDatasets().ByTopic("freshet.users")
	fmt.Println(users.Name, ok)
	// Output: users true
}

// The invalidation topic carries what became stale without an event of a dataset.
func ExampleInvalidation_Encode() {
	v := schemas.Invalidation{Names: []string{"user:42"}, Tags: []string{"customer:7"}}
	record, err := v.Encode("e1", "//shop/db")
	if err != nil {
		panic(err)
	}
	back, err := schemas.DecodeInvalidation(record)
	fmt.Println(back.Names, back.Tags, err)
	// Output: [user:42] [customer:7] <nil>
}
