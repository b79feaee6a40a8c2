package pulse

import (
	"slices"
	"time"

	"github.com/freshet/freshet/admin/api"
)

const (
	// Every is how often a sample is kept.
	Every = 5 * time.Second
	// Kept is how long samples are kept.
	Kept = 15 * time.Minute
	// window is what the percentiles of the freshness are of.
	window = 5 * time.Minute
)

// ring has the samples of the last minutes, oldest first.
type ring struct{ samples []api.Sample }

func (r *ring) add(s api.Sample) {
	if n := len(r.samples) + 1 - int(Kept/Every); n > 0 {
		r.samples = slices.Delete(r.samples, 0, n)
	}
	r.samples = append(r.samples, s)
}

// since returns copies of the samples after t that are not too old at now.
func (r *ring) since(t, now time.Time) []api.Sample {
	if oldest := now.Add(-Kept); t.Before(oldest) {
		t = oldest
	}
	at := slices.IndexFunc(r.samples, func(s api.Sample) bool { return s.At.After(t) })
	if at < 0 {
		return []api.Sample{}
	}
	return slices.Clone(r.samples[at:])
}

// freshness returns the last known freshness of the window and its percentiles.
func (r *ring) freshness(now time.Time) api.Freshness {
	f := api.Freshness{Window: window.Seconds()}
	var all []float64
	for _, s := range r.samples {
		if s.Freshness != nil && now.Sub(s.At) < window {
			all = append(all, *s.Freshness)
			f.Now = s.Freshness
		}
	}
	if len(all) > 0 {
		slices.Sort(all)
		f.P50, f.P99 = &all[(len(all)-1)/2], &all[(len(all)*99+99)/100-1]
	}
	return f
}
