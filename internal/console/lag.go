package console

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

// pageRows is how many rows a long table has on one page.
const pageRows = 200

func lagScreen() *screen {
	return &screen{path: "/lag", name: "lag", title: "Lag", nav: true, least: access.Viewer, every: 2 * time.Second, load: loadLag, act: actLag}
}

// lagPage shows how far partitions are.
type lagPage struct {
	Datasets   []datasetLag
	Partitions []api.Partition
	Total      int
	Next       int
}

// datasetLag sums up one dataset.
type datasetLag struct {
	Name       string
	Partitions int
	Behind     int
	Records    int64
	Seconds    float64
	Pause      *api.Pause
}

func loadLag(v *visit) (any, error) {
	var lag struct{ Items []api.Partition }
	if err := v.get("/v1/lag", &lag); err != nil {
		return nil, err
	}
	var sets struct{ Items []api.DatasetState }
	if err := v.get("/v1/datasets", &sets); err != nil {
		return nil, err
	}
	p := lagPage{Datasets: sumLag(sets.Items, lag.Items)}
	for _, one := range lag.Items {
		if d := v.param("dataset"); d != "" && d != one.Dataset || v.param("behind") != "" && !behind(&one) {
			continue
		}
		p.Partitions = append(p.Partitions, one)
	}
	slices.SortStableFunc(p.Partitions, func(a, b api.Partition) int { return cmp.Compare(b.Seconds, a.Seconds) })
	p.Total = len(p.Partitions)
	from := min(max(v.number("from", 0), 0), p.Total)
	if v.param("format") == "" {
		p.Partitions = p.Partitions[from:min(from+pageRows, p.Total)]
		if from+pageRows < p.Total {
			p.Next = from + pageRows
		}
	}
	return p, nil
}

func sumLag(sets []api.DatasetState, parts []api.Partition) []datasetLag {
	at := map[string]int{}
	var out []datasetLag
	for _, d := range sets {
		at[d.Name] = len(out)
		out = append(out, datasetLag{Name: d.Name, Pause: d.Pause})
	}
	for _, p := range parts {
		i, ok := at[p.Dataset]
		if !ok {
			continue
		}
		d := &out[i]
		d.Partitions++
		d.Records += p.Records
		d.Seconds = max(d.Seconds, p.Seconds)
		if behind(&p) {
			d.Behind++
		}
	}
	return out
}

// behind reports whether something of a partition waits, also what cannot be read yet.
func behind(p *api.Partition) bool {
	return p.Records > 0 || p.Held > 0 || p.Error != "" || p.Waits != nil && p.Waits.Code != "paused"
}

// Export lists the partitions.
func (p lagPage) Export() (items any, header []string, rows [][]string) {
	for _, o := range p.Partitions {
		rows = append(rows, []string{
			o.Dataset, o.Topic, strconv.Itoa(int(o.Partition)), strconv.FormatInt(o.Committed, 10), strconv.FormatInt(o.End, 10),
			strconv.FormatInt(o.Records, 10), strconv.FormatFloat(o.Seconds, 'f', 3, 64), o.Owner, o.Error,
		})
	}
	return p.Partitions, []string{"dataset", "topic", "partition", "committed", "end", "records", "seconds", "owner", "error"}, rows
}

func actLag(v *visit) (*outcome, error) {
	dataset, do := v.field("dataset"), v.field("do")
	back := link("/lag", "dataset", v.field("filter"))
	if do != "pause" && do != "resume" {
		return nil, v.unknown()
	}
	sure := v.sure("")
	if sure {
		if err := v.post("/v1/datasets/"+seg(dataset)+"/"+do, map[string]string{"reason": v.field("reason")}, nil); err != nil {
			return nil, err
		}
		return &outcome{to: back + sep(back) + "done=" + do + "d"}, nil
	}
	var lag struct{ Items []api.Partition }
	if err := v.get("/v1/lag", &lag); err != nil {
		return nil, err
	}
	sum := sumLag([]api.DatasetState{{Name: dataset}}, lag.Items)[0]
	c := confirmation{Path: "/lag", Facts: []fact{
		{v.text("Dataset"), dataset}, {v.text("Partitions"), strconv.Itoa(sum.Partitions)}, {v.text("Records that wait now"), grouped(sum.Records)},
	}}
	if do == "pause" {
		c.Question, c.Button = v.text("Pause %s on every worker?", dataset), v.text("Pause")
		c.Warning = v.text("Its replica and caches stay as they are until it is resumed. Other datasets continue.")
	} else {
		c.Question, c.Button = v.text("Let %s continue?", dataset), v.text("Resume")
	}
	return v.ask(c, "do", "dataset", "filter"), nil
}
