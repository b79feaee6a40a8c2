package producer

import (
	"bytes"
	"testing"

	"github.com/freshet/freshet/schemas"
)

// What was checked is what is sent, whatever its owner writes into the event's data afterwards; an event that Check returns has
// data of its own too.
func TestCheckedEventOwnsItsBytes(t *testing.T) {
	t.Parallel()
	c := usersChecker(t)
	for _, op := range []schemas.Op{schemas.Upsert, schemas.Delete} {
		data := []byte(`{"id":7,"email":"a@example.org","name":"A","balance":"1.00","updated_at":"2026-01-02T03:04:05Z"}`)
		was := bytes.Clone(data)
		ev := schemas.Event{Dataset: "users", Key: "7", Op: op, Version: 1, Data: data}
		one, err := c.one(ev)
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Check(ev)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] = 'x'
		}
		if !bytes.Equal(one.rec.Value, was) || string(one.rec.Key) != "7" {
			t.Errorf("%s: the record of key %q has the value %s, want %s", op, one.rec.Key, one.rec.Value, was)
		}
		if !bytes.Equal(out[0].Data, was) {
			t.Errorf("%s: the checked event has the data %s, want %s", op, out[0].Data, was)
		}
		_ = append(one.rec.Value, "more"...)
		_ = append(one.rec.Key, "more"...)
		for _, h := range one.rec.Headers {
			_ = append(h.Value, "more"...)
		}
		users, _ := c.datasets.Get("users")
		evs, err := users.Decode(one.rec)
		if err != nil || len(evs) != 1 || evs[0].Key != "7" || !bytes.Equal(evs[0].Data, was) {
			t.Errorf("%s: parts of the record share memory: it decodes to %+v, %v", op, evs, err)
		}
	}
}
