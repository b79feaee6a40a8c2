package console

import (
	"html/template"
	"math"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/console/chart"
)

// verifyRecords is how many records are compared on request, in the order of their keys; `freshet verify` compares all.
const verifyRecords = 2000

func consistencyScreen() *screen {
	return &screen{path: "/consistency", name: "consistency", title: "Consistency", nav: true, least: access.Viewer, every: 3 * time.Second, load: loadConsistency, act: actConsistency}
}

// consistencyPage shows what samplers found, and what was compared on request.
type consistencyPage struct {
	Windows []window
	Stats   report.Stats
	Charts  []titledChart
	Cached  []string // datasets that can be verified
	// Dataset is what Verified is about; nil before something was.
	Dataset  string
	Verified *api.Verification
	Limit    int
}

// window is what samplers found in one tier at one age.
type window struct {
	report.Window

	// Share is how many of the checks found no violation; NaN without a check.
	Share float64
}

func shareOf(w report.Window) float64 {
	if w.Checks == 0 {
		return math.NaN()
	}
	return 1 - float64(w.Violations)/float64(w.Checks)
}

func loadConsistency(v *visit) (any, error) {
	p := &consistencyPage{Limit: verifyRecords}
	if err := v.get("/v1/consistency", &p.Stats); err != nil {
		return nil, err
	}
	sets, err := v.datasets()
	if err != nil {
		return nil, err
	}
	for _, d := range sets {
		if d.Cached {
			p.Cached = append(p.Cached, d.Name)
		}
	}
	var past struct{ Items []api.ConsistencyPoint }
	if err := v.get("/v1/consistency/history", &past); err != nil {
		return nil, err
	}
	for _, w := range p.Stats.Windows {
		p.Windows = append(p.Windows, window{w, shareOf(w)})
		if len(past.Items) > 1 {
			title := v.text("%s, after %s", v.text(w.Tier), seconds(w.Seconds))
			p.Charts = append(p.Charts, titledChart{title, shareOverTime(title, past.Items, w)})
		}
	}
	return p, nil
}

// shareOverTime draws a window's share of violations: that of fresh copies would be a line at the top.
func shareOverTime(title string, past []api.ConsistencyPoint, of report.Window) template.HTML {
	points := make([]chart.Point, len(past))
	for i, p := range past {
		points[i] = chart.Point{At: p.At, Value: math.NaN()}
		for _, w := range p.Windows {
			if w.Tier == of.Tier && w.Seconds == of.Seconds {
				points[i].Value = 1 - shareOf(w)
			}
		}
	}
	return chart.Line(title, points, func(f float64) string { return nines(f) })
}

// actConsistency compares copies with the replica now.
func actConsistency(v *visit) (*outcome, error) {
	if v.field("do") != "verify" {
		return nil, v.unknown()
	}
	loaded, err := loadConsistency(v)
	if err != nil {
		return nil, err
	}
	p, _ := loaded.(*consistencyPage)
	p.Dataset, p.Verified = v.field("dataset"), &api.Verification{}
	if err := v.post("/v1/consistency/verify", map[string]any{"dataset": p.Dataset, "records": verifyRecords}, p.Verified); err != nil {
		return nil, err
	}
	return &outcome{name: "consistency", data: p}, nil
}
