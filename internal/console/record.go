package console

import (
	"slices"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func recordScreen() *screen {
	return &screen{path: "/record", name: "record", title: "Record", nav: true, least: access.Viewer, every: 3 * time.Second, load: loadRecord, act: actRecord}
}

// recordPage shows one record on every tier.
type recordPage struct {
	Datasets []api.DatasetState
	// Record is nil until one was asked for.
	Record   *api.Record
	Columns  map[string]any
	Timeline []moment
}

// moment is one thing that happened to the record.
type moment struct {
	At   time.Time
	Tier string
	Text string
	// Message is what Kafka has; nil for other tiers.
	Message *api.Message
}

func loadRecord(v *visit) (any, error) {
	sets, err := v.datasets()
	if err != nil {
		return nil, err
	}
	p := recordPage{Datasets: sets}
	dataset, key := v.param("dataset"), v.param("key")
	if dataset == "" || key == "" {
		return p, nil
	}
	p.Record, err = v.record(dataset, key)
	if err != nil {
		return nil, err
	}
	p.Timeline = v.timeline(p.Record)
	return p, nil
}

// datasets are all that are declared.
func (v *visit) datasets() ([]api.DatasetState, error) {
	var sets struct{ Items []api.DatasetState }
	err := v.get("/v1/datasets", &sets)
	return sets.Items, err
}

// record is one record on every tier, with content for those who may see it.
func (v *visit) record(dataset, key string) (*api.Record, error) {
	r := &api.Record{}
	data := ""
	if v.may(access.Operator) {
		data = "true"
	}
	return r, v.get("/v1/records/"+seg(dataset)+"/"+seg(key), r, "data", data)
}

// timeline is what is known to have happened to the record, newest first.
func (v *visit) timeline(r *api.Record) []moment {
	var out []moment
	for i := range r.Kafka.Events {
		m := &r.Kafka.Events[i]
		text := v.text("%s, version %d, at offset %d", m.Op, m.Version, m.Offset)
		if m.Problem != "" {
			text = m.Problem
		}
		out = append(out, moment{At: m.Time, Tier: "Kafka", Text: text, Message: m})
	}
	if r.Row != nil {
		text := v.text("the row has version %d", r.Row.Version)
		if r.Row.Deleted {
			text = v.text("the row was deleted with version %d", r.Row.Version)
		}
		out = append(out, moment{At: r.Row.At, Tier: "MySQL", Text: text})
	}
	for _, l := range r.Letters {
		out = append(out, moment{At: l.Created, Tier: v.text("dead letter"), Text: l.Reason + ": " + l.Detail})
	}
	slices.SortStableFunc(out, func(a, b moment) int { return b.At.Compare(a.At) })
	return out
}

func actRecord(v *visit) (*outcome, error) {
	dataset, key, do := v.field("dataset"), v.field("key"), v.field("do")
	here, path := link("/record", "dataset", dataset, "key", key), "/v1/records/"+seg(dataset)+"/"+seg(key)
	if do != "invalidate" {
		return nil, v.unknown()
	}
	sure := v.sure("")
	if !sure {
		return askInvalidate(v, dataset, key)
	}
	return &outcome{to: here + "&done=invalidated"}, v.post(path+"/invalidate", map[string]string{"reason": v.field("reason")}, nil)
}

// askInvalidate shows which copies an invalidation would reach.
func askInvalidate(v *visit, dataset, key string) (*outcome, error) {
	r, err := v.record(dataset, key)
	if err != nil {
		return nil, err
	}
	c := confirmation{Path: "/record", Question: v.text("Make the cached copies of %s %s stale?", dataset, key), Button: v.text("Invalidate")}
	none := v.text("none")
	shared := none
	if r.Shared != nil && r.Shared.State == "value" {
		shared = v.text("version %d", r.Shared.Version)
	}
	held := 0
	for _, n := range r.Nodes {
		if n.Held {
			held++
			c.Samples = append(c.Samples, fact{n.Node, v.text("version %d", n.Version)})
		}
	}
	c.Facts = []fact{{v.text("Shared entry"), shared}, {v.text("Nodes that hold it"), strconv.Itoa(held)}}
	c.Warning = v.text("The next read of each copy loads the record again. Rows do not change.")
	return v.ask(c, "do", "dataset", "key"), nil
}
