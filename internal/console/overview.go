package console

import (
	"html/template"
	"math"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/console/chart"
)

func overviewScreen() *screen {
	return &screen{path: "/", name: "overview", title: "Overview", nav: true, least: access.Viewer, every: 2 * time.Second, load: loadOverview}
}

// overviewPage is the state of everything at a glance.
type overviewPage struct {
	api.Overview

	Charts []titledChart
	Jobs   []api.Replay
}

type titledChart struct {
	Title string
	SVG   template.HTML
}

func loadOverview(v *visit) (any, error) {
	p := overviewPage{}
	if err := v.get("/v1/overview", &p.Overview); err != nil {
		return nil, err
	}
	plain := func(f float64) string { return rate(f) }
	for _, one := range []struct {
		title  string
		format func(float64) string
		value  func(*api.Sample) *float64
	}{
		{v.text("Freshness to the slowest node"), seconds, func(s *api.Sample) *float64 { return s.Freshness }},
		{v.text("Applied a second"), plain, func(s *api.Sample) *float64 { return s.Applied }},
		{v.text("Invalidations a second"), plain, func(s *api.Sample) *float64 { return s.Invalidations }},
		{v.text("Oldest record waits"), seconds, func(s *api.Sample) *float64 { return s.Lag }},
		{v.text("Hit ratio"), func(f float64) string { return strconv.FormatFloat(f*100, 'f', 0, 64) + " %" }, func(s *api.Sample) *float64 { return s.HitRatio }},
		{v.text("Open dead letters"), plain, func(s *api.Sample) *float64 { return float(s.Letters) }},
	} {
		points := make([]chart.Point, len(p.Samples))
		for i := range p.Samples {
			points[i] = chart.Point{At: p.Samples[i].At, Value: math.NaN()}
			if f := one.value(&p.Samples[i]); f != nil {
				points[i].Value = *f
			}
		}
		p.Charts = append(p.Charts, titledChart{one.title, chart.Line(one.title, points, one.format)})
	}
	p.Samples = nil
	if n := p.Counts.RunningJobs; n != nil && *n > 0 {
		var found struct{ Items []api.Replay }
		if err := v.get("/v1/replays", &found, "limit", "20"); err != nil {
			return nil, err
		}
		for i := range found.Items {
			if found.Items[i].State == "running" {
				p.Jobs = append(p.Jobs, found.Items[i])
			}
		}
	}
	return p, nil
}

func float(n *int64) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}
