package outbox_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

// rename changes a row and enqueues what the record has become, in one transaction. It returns the record's version.
func rename(ctx context.Context, db *sql.DB, box *outbox.Outbox, id int64, name string) (int64, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	// The change comes first: its lock on the row makes versions follow the order of commits.
	if _, err := tx.ExecContext(ctx, "UPDATE users SET name = ? WHERE id = ?", name, id); err != nil {
		return 0, err
	}
	var email string
	if err := tx.QueryRowContext(ctx, "SELECT email FROM users WHERE id = ?", id).Scan(&email); err != nil {
		return 0, err
	}
	versions, err := box.Enqueue(ctx, tx, schemas.Event{
		Dataset: "users", Key: fmt.Sprint(id), Op: schemas.Upsert,
		Data: fmt.Appendf(nil, `{"id":%d,"email":%q,"name":%q}`, id, email, name),
	})
	if err != nil {
		return 0, err
	}
	// After the commit, Cache.GetAtLeast with the version reads this state from any process.
	return versions[0], tx.Commit()
}

func Example() {
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		panic(err)
	}
	box, err := outbox.New(outbox.Config{Datasets: datasets})
	if err != nil {
		panic(err)
	}
	// Each request calls rename with the service's database and box.
	_ = rename
	// What Enqueue refuses can be asked for without a database.
	fmt.Println(box.Check(schemas.Event{Dataset: "users", Key: "42", Op: schemas.Upsert, Data: []byte(`{"id":"42"}`)}))
	// Output: event 0 (dataset users): data/id: breaks the schema's type
}
