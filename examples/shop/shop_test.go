package shop_test

import (
	"testing"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/schemas"
)

func TestDatasetsLoad(t *testing.T) {
	set, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	events := map[string]schemas.Event{
		"users": {Key: "42", Data: []byte(`{"id":42,"email":"ada@example.org","name":"Ada","country":null,"active":true,
			"balance":"10.50","born":"1990-02-28","updated_at":"2026-01-02T03:04:05.678Z","preferences":{"theme":"dark"}}`)},
		"products": {Key: "A-100/7", Data: []byte(`{"sku":"A-100/7","title":"Lamp","price":"19.90","stock":3,"labels":["new"]}`)},
		"orders": {Key: "ch,1001", Data: []byte(`{"shop":"ch","number":1001,"user_id":42,"state":"placed","total":"19.90",
			"items":[{"sku":"A-100/7","quantity":1}],"placed_at":"2026-01-02T03:04:05+01:00"}`)},
	}
	keys := map[string]string{"users": "user:42", "products": "product:A-100/7", "orders": "order:ch:1001"}
	if set.Len() != len(events) {
		t.Fatalf("got %d datasets, want %d", set.Len(), len(events))
	}
	for _, d := range set.All() {
		if u := d.Unbuilt(); len(u) > 0 {
			t.Errorf("%s: the example uses what is not built: %v", d.Name, u)
		}
		ev, ok := events[d.Name]
		if !ok {
			t.Fatalf("unexpected dataset %s", d.Name)
		}
		ev.Dataset, ev.Op, ev.Version = d.Name, schemas.Upsert, 1
		if _, err := d.Check(&ev); err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
		if got, err := d.CacheKey(ev.Key); err != nil || got != keys[d.Name] {
			t.Errorf("%s: cache key %q, %v; want %q", d.Name, got, err, keys[d.Name])
		}
	}
}
