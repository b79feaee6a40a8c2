package admin_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// TestTimesBeyondTheCalendarAreShown: a producer that writes nanoseconds where Kafka has milliseconds makes a year that
// JSON cannot carry. Rows and dead letters that were stored with such a time are shown all the same.
func TestTimesBeyondTheCalendarAreShown(t *testing.T) {
	const nanoseconds = 1764480000000000000
	r := newRig(t, nil)
	d, _ := r.datasets.Get("items")
	ev := schemas.Event{ID: "e1", Source: "//x", Dataset: "items", Key: "k1", Op: schemas.Upsert, Version: 5, Data: []byte(`{"id":"k1","n":1}`)}
	rec, err := d.Encode(&ev)
	must(t, err)
	source := schemas.SourceName(d.Topic, "AAAAAAAAAAAAAAAAAAAAAA", 0)
	pos, err := r.cfg.Replica.Positions.Take(t.Context(), r.cfg.Group, "o", 1, []replica.Claim{{Source: source}})
	must(t, err)
	row, err := d.Check(&ev)
	must(t, err)
	rec.Time = nanoseconds
	change, err := replica.NewChange(d, &rec, 0, &ev, row)
	must(t, err)
	letter := &replica.Letter{Offset: 1, Dataset: "items", Key: "k2", Version: 5, Op: schemas.Upsert, Reason: schemas.ReasonRefused, Record: &rec, CacheKey: "item:k2"}
	_, err = r.cfg.Replica.Apply(t.Context(), &replica.Batch{
		Source: source, Fence: pos[0].Fence, Next: 2, Changes: []*replica.Change{change}, Letters: []*replica.Letter{letter},
	})
	must(t, err)

	last := time.UnixMilli(schemas.MaxTime).UTC()
	var list struct{ Items []api.Letter }
	r.want(200, "viewer", "GET", "/v1/deadletters", nil).into(t, &list)
	if len(list.Items) != 1 || !list.Items[0].Time.Equal(last) {
		t.Fatalf("dead letters: %+v", list.Items)
	}
	var shown api.ShownLetter
	r.want(200, "viewer", "GET", "/v1/deadletters/"+url.PathEscape(list.Items[0].ID), nil).into(t, &shown)
	r.want(200, "viewer", "GET", "/v1/deadletters/groups", nil).into(t, &struct{}{})
	var record api.Record
	r.want(200, "viewer", "GET", "/v1/records/items/k1", nil).into(t, &record)
	if record.Row == nil || !record.Row.At.Equal(last) {
		t.Errorf("record: %+v", record)
	}
}
