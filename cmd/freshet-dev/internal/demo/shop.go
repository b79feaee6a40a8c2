package demo

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// maker invents the records of a dataset of examples/shop.
type maker struct {
	// key returns the key properties' values of record id.
	key func(id int) []any
	// data returns the full state of record id; the version is written into it, so that every state differs.
	data func(r *rand.Rand, id int, version int64) map[string]any
}

// makers has the maker of each dataset.
func makers() map[string]maker {
	return map[string]maker{
		"users": {
			key: func(id int) []any { return []any{int64(id + 1)} },
			data: func(r *rand.Rand, id int, version int64) map[string]any {
				return map[string]any{
					"id": id + 1, "email": fmt.Sprintf("user%d@shop.example", id+1), "name": fmt.Sprintf("User %d.%d", id+1, version),
					"country": pick(r, "CH", "DE", "FR", "CN", "US"), "active": r.IntN(10) > 0, "balance": money(r, 5000),
					"updated_at": time.UnixMicro(version).UTC().Format(time.RFC3339Nano),
				}
			},
		},
		"products": {
			key: func(id int) []any { return []any{sku(id)} },
			data: func(r *rand.Rand, id int, version int64) map[string]any {
				return map[string]any{
					"sku": sku(id), "title": fmt.Sprintf("%s %d.%d", pick(r, "Lamp", "Chair", "Table", "Shelf"), id, version),
					"price": money(r, 900), "currency": pick(r, "CHF", "EUR", "USD"), "stock": r.IntN(1000),
					"labels": []string{pick(r, "new", "sale", "last"), pick(r, "oak", "steel", "glass")},
				}
			},
		},
		"orders": {
			key: func(id int) []any { return []any{branch(id), int64(1000 + id)} },
			data: func(r *rand.Rand, id int, version int64) map[string]any {
				return map[string]any{
					"shop": branch(id), "number": 1000 + id, "user_id": 1 + r.IntN(100), "total": money(r, 2000),
					"state":     pick(r, "placed", "paid", "sent", "done", "cancelled"),
					"items":     []map[string]any{{"sku": sku(r.IntN(100)), "quantity": 1 + r.IntN(5)}},
					"placed_at": time.UnixMicro(version).UTC().Format(time.RFC3339Nano), "note": fmt.Sprint("state ", version),
				}
			},
		},
	}
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

func money(r *rand.Rand, below int) string { return fmt.Sprintf("%d.%02d", r.IntN(below), r.IntN(100)) }

func sku(id int) string { return fmt.Sprintf("SKU-%05d", id) }

func branch(id int) string { return [...]string{"zurich", "basel", "bern"}[id%3] }
