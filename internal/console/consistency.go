package console

import (
	"time"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/internal/admin/access"
)

func consistencyScreen() *screen {
	return &screen{path: "/consistency", name: "consistency", title: "Consistency", nav: true, least: access.Viewer, every: 3 * time.Second, load: loadConsistency}
}

// consistencyPage shows what the verifier found.
type consistencyPage struct {
	Windows []window
	Stats   report.Stats
}

type window struct {
	report.Window

	// Share is how many of the checks found no violation; NaN without a check.
	Share float64
}

func loadConsistency(v *visit) (any, error) {
	var p consistencyPage
	if err := v.get("/v1/consistency", &p.Stats); err != nil {
		return nil, err
	}
	for _, w := range p.Stats.Windows {
		share := 1.0
		if w.Checks > 0 {
			share = 1 - float64(w.Violations)/float64(w.Checks)
		}
		p.Windows = append(p.Windows, window{w, share})
	}
	return p, nil
}
