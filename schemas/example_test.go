package schemas_test

import (
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/freshet/freshet/schemas"
)

func exampleDatasets() *schemas.Datasets {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"users.yaml": {Data: []byte("dataset: users\nschema: users.json\nkey: [id]\ncache: {key: \"user:{id}\"}\n")},
		"users.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{
			"id":{"type":"integer"},"name":{"type":"string","maxLength":10},"seen":{"type":"string","format":"date-time"}}}`)},
	})
	if err != nil {
		panic(err)
	}
	return set
}

func ExampleDataset_Check() {
	users, _ := exampleDatasets().Get("users")
	row, err := users.Check(&schemas.Event{
		Dataset: "users", Key: "42", Op: schemas.Upsert, Version: 7,
		Data: []byte(`{"id":42,"name":"Ada","seen":"2026-01-02T03:04:05+02:00"}`),
	})
	fmt.Println(row.Values, err)

	_, err = users.Check(&schemas.Event{
		Dataset: "users", Key: "42", Op: schemas.Upsert, Version: 8, Data: []byte(`{"id":42,"name":"Ada Lovelace"}`),
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, schemas.ErrInvalid), schemas.ReasonOf(err))
	// Output:
	// [42 Ada 2026-01-02 01:04:05.000000] <nil>
	// data/name: breaks the schema's maxLength
	// true schema
}

func ExampleLoadDatasets() {
	_, err := schemas.LoadDatasets(fstest.MapFS{
		"users.yaml": {Data: []byte("dataset: users\nschema: users.json\nkey: [uid]\nttl: 5\n")},
		"users.json": {Data: []byte(`{"type":"object","properties":{"id":{"type":"integer"}}}`)},
	})
	fmt.Println(err)
	// Output:
	// users.yaml:4: ttl: is an unknown field; known are dataset, topic, format, schema, key, version, unknown_properties, on_delete, on_data_loss, on_storm, replica, cache, cdc
	// users.yaml:3: key: names uid, which the schema does not declare; name a property of the schema
}

func ExampleDataset_Encode() {
	users, _ := exampleDatasets().Get("users")
	record, err := users.Encode(&schemas.Event{
		ID: "0197b5f0-0000-7000-8000-000000000001", Source: "//shop/db", Dataset: "users", Key: "42", Op: schemas.Delete, Version: 8,
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s %s\n", record.Key, record.Value)
	for _, h := range record.Headers {
		fmt.Printf("%s: %s\n", h.Key, h.Value)
	}
	// Output:
	// 42 {"id":42}
	// ce_specversion: 1.0
	// ce_id: 0197b5f0-0000-7000-8000-000000000001
	// ce_source: //shop/db
	// ce_type: io.freshet.row.delete.v1
	// ce_subject: users/42
	// ce_partitionkey: 42
	// ce_sequence: 0000000000000008
	// content-type: application/json
}

func ExampleDataset_CacheKey() {
	users, _ := exampleDatasets().Get("users")
	key, _ := users.FormatKey(42)
	name, err := users.CacheKey(key)
	fmt.Println(name, err)
	// Output: user:42 <nil>
}

func ExampleToken() {
	mine := schemas.NewToken("freshet.users/kR3/0", 1099)
	both := mine.Merge(schemas.NewToken("freshet.orders/b7Q/2", 5))
	back, err := schemas.ParseToken(both.String())
	fmt.Println(back.Offsets(), err)
	// Output: map[freshet.orders/b7Q/2:5 freshet.users/kR3/0:1099] <nil>
}
