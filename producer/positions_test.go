package producer_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// Where versions are positions, a publisher knows none.
func TestPublishWherePositionsCount(t *testing.T) {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"u.yaml": {Data: []byte("dataset: boats\nversion: offset\nschema: u.json\nkey: [id]\nreplica: {table: boats}\n")},
		"u.json": {Data: []byte(plainUser)},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := producer.NewChecker(set, "//shop/db")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Check(schemas.Event{Dataset: "boats", Key: "1", Op: schemas.Delete, Version: 1})
	if err == nil || !strings.Contains(err.Error(), "positions") {
		t.Errorf("got %v", err)
	}
}
