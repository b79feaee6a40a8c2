package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/schemas"
)

// perRecord is how many events a record of the workload skew has on average.
const perRecord = 20

// Workloads lists what Apply can publish.
func Workloads() []string { return []string{"mixed", "insert", "update", "skew", "delete", "replay"} }

// workload makes the events of a benchmark in the order in which they are published: the same ones each time, with versions that
// grow per record.
type workload struct {
	name    string
	dataset string
	events  int
	records int // how many there are
	draws   bool
	body    string
	random  *rand.Rand
	zipf    *rand.Zipf
	version map[int]int64
}

// newWorkload takes the name from Workloads; size is about how many bytes of data an event has.
func newWorkload(name, dataset string, events, records, size int) *workload {
	const rest = 178 // bytes of the data beside the body
	w := &workload{
		name: name, dataset: dataset, events: events, records: records, body: strings.Repeat("b", max(0, size-rest)),
		random: rand.New(rand.NewPCG(1, 2)), version: map[int]int64{},
	}
	switch name {
	case "insert", "delete":
		w.records = events
	case "skew": // a few records have most of the events
		w.records = max(events/perRecord, 2)
		w.zipf = rand.NewZipf(w.random, 1.1, 10, uint64(w.records-1))
	default:
		w.draws = true
	}
	return w
}

// filled reports whether every record has a row, of version 1, before the first event; replayed that its row is newer than that.
func (w *workload) filled() bool   { return w.name == "update" || w.name == "delete" }
func (w *workload) replayed() bool { return w.name == "replay" }

// next makes the next event.
func (w *workload) next(i int) schemas.Event {
	n := i
	switch {
	case w.zipf != nil:
		n = int(w.zipf.Uint64())
	case w.draws:
		n = w.random.IntN(w.records)
	}
	if w.version[n] == 0 {
		w.version[n] = 1 // the row of a filled table
	}
	w.version[n]++
	if w.name == "delete" {
		return schemas.Event{Dataset: w.dataset, Key: recordID(n), Op: schemas.Delete, Version: w.version[n]}
	}
	r := w.row(n, i)
	data, _ := json.Marshal(r) // strings and numbers
	return schemas.Event{Dataset: w.dataset, Key: r.ID, Op: schemas.Upsert, Version: w.version[n], Data: data}
}

// row is a record's state. Its fields are the columns of the benchmark's tables.
type row struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Email   string  `json:"email"`
	Country string  `json:"country"`
	N       int64   `json:"n"`
	Active  bool    `json:"active"`
	Score   float64 `json:"score"`
	Body    string  `json:"body"`
}

const rowSchema = `{"type":"object","required":["id","name","email","n","body"],"properties":{"id":{"type":"string","maxLength":32},
	"name":{"type":"string","maxLength":100},"email":{"type":"string","maxLength":100},"country":{"type":"string","maxLength":2},"n":{"type":"integer"},
	"active":{"type":"boolean"},"score":{"type":"number"},"body":{"type":"string","maxLength":4000}}}`

func (w *workload) row(n, i int) row {
	id := recordID(n)
	return row{ID: id, Name: "Name of " + id, Email: id + "@example.com", Country: "CH", N: int64(i), Active: i%2 == 0, Score: float64(i) / 4, Body: w.body}
}

// values are the columns in the order of the tables.
func (r *row) values() []any {
	return []any{r.ID, r.Name, r.Email, r.Country, r.N, r.Active, r.Score, r.Body}
}

// recordID spreads records over the key's range, as identifiers that are hashes or random do: new rows are not appended to the
// table's end.
func recordID(n int) string {
	x := uint64(n) + 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return fmt.Sprintf("r%016x", x^(x>>31))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// spread is the median of several turns, and the least and greatest value.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	return spread{Median: (v[(len(v)-1)/2] + v[len(v)/2]) / 2, Min: v[0], Max: v[len(v)-1]}
}
