package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// ApplyResult is the result of Apply.
type ApplyResult struct {
	Events        int                `json:"events"`
	Rows          int64              `json:"rows"`
	PublishRate   float64            `json:"publish_events_per_second"`
	WorkerRate    float64            `json:"worker_events_per_second"`
	BareRate      float64            `json:"bare_events_per_second"`
	CPU           map[string]float64 `json:"cpu_us_per_event"`
	BareCPU       map[string]float64 `json:"bare_cpu_us_per_event"`
	PeakRSS       int64              `json:"worker_peak_rss_bytes"`
	Ratio         float64            `json:"ratio"`
	RowsPerCommit float64            `json:"events_per_transaction"`
}

// ApplyConfig is the size of the benchmark Apply. Events and Partitions are required.
type ApplyConfig struct {
	Events     int  // events to publish
	Keys       int  // distinct records, chosen with a skew; 0: each event has its own
	Partitions int  // partitions of the topic
	Size       int  // approximate bytes of a row
	NoCache    bool // the dataset has no cache section, so nothing is invalidated
}

// Apply measures how many events per second a worker carries, and how many the bare statement writes on the same servers.
func Apply(ctx context.Context, c config.Config, f ApplyConfig, log *slog.Logger) (*ApplyResult, error) {
	b, err := openRig(ctx, c, f, log)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	res := &ApplyResult{Events: f.Events}
	if res.PublishRate, err = b.publish(ctx, newEvents(b.ds.Name, f)); err != nil {
		return nil, err
	}
	watch := newCPUWatch(ctx, b.cfg, b.db)
	if err := b.measureWorker(ctx, f.Events, watch, res); err != nil {
		return nil, err
	}
	if err := b.db.SQL().QueryRowContext(ctx, "SELECT COUNT(*) FROM `"+b.ds.Replica.Table+"`").Scan(&res.Rows); err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	if err := b.measureBare(ctx, f.Events, watch, res); err != nil {
		return nil, err
	}
	res.Ratio = res.WorkerRate / res.BareRate
	return res, nil
}

// measureWorker lets a worker carry the whole topic and measures from the assignment to the last emission.
func (b *rig) measureWorker(ctx context.Context, events int, watch *cpuWatch, res *ApplyResult) error {
	w, err := b.worker(nil)
	if err != nil {
		return err
	}
	forgetPeak()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.Run(gctx) })
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var started time.Time
	for {
		select {
		case <-gctx.Done():
			return errors.Join(g.Wait(), context.Cause(gctx))
		case <-tick.C:
		}
		st := w.Stats()
		if started.IsZero() && st.Consumer.Assigned {
			started = time.Now() // joining the group is not what is measured
			watch.start()
		}
		if emittedAll(st, events) {
			res.WorkerRate = float64(events) / time.Since(started).Seconds()
			res.CPU, res.PeakRSS = watch.perEvent(events), peakRSS()
			res.RowsPerCommit = float64(st.Events) / float64(max(1, st.Batches))
			break
		}
	}
	cancel()
	return g.Wait()
}

func emittedAll(st worker.Stats, events int) bool {
	if st.Events < uint64(events) {
		return false
	}
	for _, p := range st.Consumer.Partitions {
		if p.Emitted < p.HighWater {
			return false
		}
	}
	return true
}

// measureBare writes the same rows in batches of the same size with as many connections, by the bare prepared statement:
// no fence, no position, no check, no cache. It reads the topic into memory first; that is not measured.
func (b *rig) measureBare(ctx context.Context, events int, watch *cpuWatch, res *ApplyResult) error {
	batches, err := bareBatches(ctx, b.kafka, b.ds, b.cfg.Worker.MaxBatch)
	if err != nil {
		return err
	}
	if _, err := b.db.SQL().ExecContext(ctx, "TRUNCATE TABLE `"+b.ds.Replica.Table+"`"); err != nil {
		return fmt.Errorf("empty table: %w", err)
	}
	runtime.GC()
	watch.start()
	started := time.Now()
	if err := b.db.BareUpserts(ctx, b.ds, batches, cmp.Or(b.cfg.Worker.Writers, kafkalog.DefaultWriters)); err != nil {
		return err
	}
	res.BareRate = float64(events) / time.Since(started).Seconds()
	res.BareCPU = watch.perEvent(events)
	return nil
}

// bareBatches reads every partition and keeps, per batch, each record's newest row in key order, as the worker does.
func bareBatches(ctx context.Context, kafka *kafkalog.Client, ds *schemas.Dataset, size int) ([][]*replica.Change, error) {
	info, err := kafka.Topic(ctx, ds.Topic)
	if err != nil {
		return nil, err
	}
	ends, err := kafka.Offsets(ctx, ds.Topic)
	if err != nil {
		return nil, err
	}
	perPartition := make([][][]*replica.Change, info.Partitions)
	longest := 0
	for id := range info.Partitions {
		part := kafkalog.Partition{Topic: info.Name, TopicID: info.ID, ID: id}
		r := kafkalog.NewReader(kafka, part, 0, kafkalog.ReaderConfig{Until: ends[id].LastStable, MaxRecords: cmp.Or(size, kafkalog.DefaultMaxRecords)})
		for r.Next() < ends[id].LastStable {
			b, err := r.Read(ctx)
			if err != nil {
				return nil, errors.Join(err, r.Close())
			}
			rows, err := bareRows(ds, b)
			if err != nil {
				return nil, errors.Join(err, r.Close())
			}
			perPartition[id] = append(perPartition[id], rows)
		}
		longest = max(longest, len(perPartition[id]))
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	var out [][]*replica.Change
	for i := range longest { // in turn, as the worker sees them
		for _, p := range perPartition {
			if i < len(p) {
				out = append(out, p[i])
			}
		}
	}
	return out, nil
}

func bareRows(ds *schemas.Dataset, b *kafkalog.Batch) ([]*replica.Change, error) {
	newest := map[string]*replica.Change{}
	for i := range b.Records {
		evs, err := ds.Decode(b.Records[i])
		if err != nil {
			return nil, err
		}
		for n := range evs {
			row, err := ds.Check(&evs[n])
			if err != nil {
				return nil, err
			}
			if old := newest[evs[n].Key]; old == nil || old.Version < evs[n].Version {
				newest[evs[n].Key] = &replica.Change{Dataset: ds, Values: row.Values, Version: evs[n].Version, At: b.Records[i].Time, Event: &evs[n]}
			}
		}
	}
	out := make([]*replica.Change, 0, len(newest))
	for _, c := range newest {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *replica.Change) int { return strings.Compare(a.Event.Key, b.Event.Key) })
	return out, nil
}

// Print writes the result as text.
func (r *ApplyResult) Print(w io.Writer) {
	fmt.Fprintf(w, "events              %d, %d rows, %.0f events a transaction\n", r.Events, r.Rows, r.RowsPerCommit)
	fmt.Fprintf(w, "publish             %.0f events/s\n", r.PublishRate)
	fmt.Fprintf(w, "worker              %.0f events/s, peak %d MiB\n", r.WorkerRate, r.PeakRSS>>20)
	fmt.Fprintf(w, "bare guarded upsert %.0f events/s\n", r.BareRate)
	printCPU(w, r.CPU, "the worker", r.BareCPU, "bare")
	fmt.Fprintf(w, "ratio=%.3f\n", r.Ratio)
}
