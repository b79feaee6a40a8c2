package worker

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/invalidation/lane"
)

// maxTraced bounds the events of one batch of which the stages are recorded; a batch may have thousands.
const maxTraced = 64

// traced is an event of a batch whose trace is recorded.
type traced struct {
	parent, state string
	key           string // its cache key
	offset        int64
	published     int64 // the broker's time, Unix ms
}

// tracing is what a batch knows of its traces: nothing, unless an event in it is sampled.
type tracing struct {
	events            []traced
	started, appliedA time.Time
}

// trace notes the sampled events of a batch that was applied, before its memory goes.
func (p *prepared) trace(started time.Time, took time.Duration) {
	for _, c := range p.changes {
		if !tracecontext.Sampled(c.Event.TraceParent) {
			continue
		}
		if _, ok := tracecontext.Parse(c.Event.TraceParent, ""); !ok {
			continue // what is none takes no place of one
		}
		if p.tracing == nil {
			p.tracing = &tracing{started: started, appliedA: started.Add(took)}
		}
		p.tracing.add(c)
		if len(p.tracing.events) == maxTraced {
			return
		}
	}
}

func (t *tracing) add(c *replica.Change) {
	t.events = append(t.events, traced{
		strings.Clone(c.Event.TraceParent), strings.Clone(c.Event.TraceState), strings.Clone(c.CacheKey), c.Offset, c.At,
	})
}

// traces are the changes that a lane's entry carries on to the nodes: those whose keys are among its items, without the keys if a tag stands
// for these.
func (p *prepared) traces(its []lane.Item, how verdict) []lane.Trace {
	if p.tracing == nil || how == covered {
		return nil
	}
	here := make(map[string]bool, len(its))
	for _, it := range its {
		here[it.Key] = true
	}
	var out []lane.Trace
	for _, e := range p.tracing.events {
		if !here[e.key] {
			continue
		}
		t := lane.Trace{Parent: e.parent, Key: e.key}
		if how == byStamp {
			t.Key = ""
		}
		out = append(out, t)
	}
	return out
}

// record makes the spans of a batch that was emitted: one of the batch with a link to each of its traces, and in each trace the stages of the
// event. They are made afterwards, with the times that were measured, so that what is not traced costs nothing on the way.
func (c *core) record(p *partition, pr *prepared, from, next int64) {
	t := pr.tracing
	if t == nil || c.cfg.Tracer == nil {
		return
	}
	emitted := time.Now()
	where := []attribute.KeyValue{
		attribute.String("messaging.system", "kafka"), attribute.String("messaging.destination.name", p.id.Topic),
		attribute.Int("messaging.destination.partition.id", int(p.id.ID)), attribute.String("freshet.dataset", c.datasetName(p)),
	}
	var links []trace.Link
	for _, e := range t.events {
		if sc, ok := tracecontext.Parse(e.parent, e.state); ok {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	ctx := context.Background()
	_, batch := c.cfg.Tracer.Start(ctx, "freshet batch", trace.WithTimestamp(t.started), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...), trace.WithNewRoot(),
		trace.WithAttributes(append(where, attribute.Int64("freshet.offset.first", from), attribute.Int64("freshet.offset.next", next))...))
	batch.End(trace.WithTimestamp(emitted))
	for _, e := range t.events {
		at := tracecontext.With(ctx, e.parent, e.state)
		at, process := c.cfg.Tracer.Start(at, "freshet process", trace.WithTimestamp(time.UnixMilli(e.published)), trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithLinks(trace.Link{SpanContext: batch.SpanContext()}),
			trace.WithAttributes(append(where, attribute.Int64("messaging.kafka.offset", e.offset))...))
		for _, stage := range []struct {
			name     string
			from, to time.Time
		}{{"freshet fetch", time.UnixMilli(e.published), t.started}, {"freshet apply", t.started, t.appliedA}, {"freshet emit", t.appliedA, emitted}} {
			_, span := c.cfg.Tracer.Start(at, stage.name, trace.WithTimestamp(stage.from))
			span.End(trace.WithTimestamp(stage.to))
		}
		process.End(trace.WithTimestamp(emitted))
	}
}

func (c *core) datasetName(p *partition) string {
	if p.dataset == nil {
		return ""
	}
	return p.dataset.Name
}
