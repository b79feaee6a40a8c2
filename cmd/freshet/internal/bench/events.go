package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/freshet/freshet/schemas"
)

// events makes the events in the order in which they are published: versions grow per record.
type events struct {
	dataset string
	events  int
	body    string
	skew    *rand.Zipf // nil: every event is a record of its own
	version map[int]int64
}

func newEvents(dataset string, f ApplyConfig) *events {
	const rest = 110 // bytes of a row that are not the body
	b := &events{dataset: dataset, events: f.Events, body: strings.Repeat("b", max(0, f.Size-rest)), version: map[int]int64{}}
	if f.Keys > 0 {
		b.skew = rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 10, uint64(f.Keys-1))
	}
	return b
}

func (b *events) at(i int) schemas.Event {
	n, v := i, int64(1)
	if b.skew != nil {
		n = int(b.skew.Uint64())
		b.version[n]++
		v = b.version[n]
	}
	id := fmt.Sprintf("r%09d", n)
	data, _ := json.Marshal(map[string]any{
		"id": id, "name": "Name of " + id, "email": id + "@example.com", "n": i, "active": i%2 == 0, "body": b.body,
	})
	return schemas.Event{Dataset: b.dataset, Key: id, Op: schemas.Upsert, Version: v, Data: data}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
