package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"
)

// Measure is what one turn of one consumer cost.
type Measure struct {
	// Rate is in events per second.
	Rate float64 `json:"events_per_second"`
	// CPU is in µs per event, by process, as far as it runs on this machine: "worker" is the consumer's own, "mysql" the database's.
	CPU map[string]float64 `json:"cpu_us_per_event"`
	// Allocs and AllocBytes are the consumer's allocations per event, PeakRSS its greatest resident size in bytes.
	Allocs     float64 `json:"allocations_per_event"`
	AllocBytes float64 `json:"allocated_bytes_per_event"`
	PeakRSS    float64 `json:"peak_rss_bytes"`
	// EventsPerBatch is how many events a transaction of the worker had, Rows how many rows the table has at the end.
	EventsPerBatch float64 `json:"events_per_transaction,omitempty"`
	Rows           int64   `json:"rows"`
}

// meter measures a turn in the process that runs it.
type meter struct {
	watch   *cpuWatch
	profile *os.File // nil without
	before  runtime.MemStats
	began   time.Time
}

// newMeter also writes a CPU profile and one of allocations, unless profile, the name of the former, is empty.
func newMeter(watch *cpuWatch, profile string) (*meter, error) {
	m := &meter{watch: watch}
	if profile == "" {
		return m, nil
	}
	var err error
	if m.profile, err = os.Create(profile); err != nil {
		return nil, fmt.Errorf("write profile: %w", err)
	}
	return m, nil
}

// newMeter measures the rig's consumer.
func (b *rig) newMeter(ctx context.Context) (*meter, error) {
	profile := ""
	if b.profiles != "" {
		profile = filepath.Join(b.profiles, b.consumer+".cpu")
	}
	return newMeter(newCPUWatch(ctx, b.cfg, b.db), profile)
}

func (m *meter) start() {
	forgetPeak()
	if m.profile != nil {
		_ = pprof.StartCPUProfile(m.profile) // only one is ever started
	}
	runtime.ReadMemStats(&m.before)
	m.watch.start()
	m.began = time.Now()
}

func (m *meter) stop(events int) *Measure {
	n := float64(events)
	out := &Measure{Rate: n / time.Since(m.began).Seconds(), CPU: m.watch.perEvent(events), PeakRSS: float64(peakRSS())}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	out.Allocs = float64(after.Mallocs-m.before.Mallocs) / n
	out.AllocBytes = float64(after.TotalAlloc-m.before.TotalAlloc) / n
	if m.profile != nil {
		pprof.StopCPUProfile()
		_ = m.profile.Close() // a damaged profile shows when it is read
		m.heap()
	}
	return out
}

// heap writes the profile of allocations; its name is that of the CPU profile with another ending.
func (m *meter) heap() {
	f, err := os.Create(m.profile.Name()[:len(m.profile.Name())-len(".cpu")] + ".allocs")
	if err != nil {
		return
	}
	_ = pprof.Lookup("allocs").WriteTo(f, 0)
	_ = f.Close()
}
