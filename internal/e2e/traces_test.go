package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

// otlpCollector takes spans over HTTP, as Jaeger and the OpenTelemetry collector do.
type otlpCollector struct {
	url string

	mu    sync.Mutex // guards what follows
	spans []*otlp.Span
}

func newCollector(t *testing.T) *otlpCollector {
	t.Helper()
	c := &otlpCollector{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
			http.Error(w, "no spans", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range req.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

// provider exports the spans of this process.
func (c *otlpCollector) provider(t *testing.T, sampler sdktrace.Sampler) *sdktrace.TracerProvider {
	t.Helper()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(c.url+"/v1/traces"))
	if err != nil {
		t.Fatal(err)
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sampler))
	t.Cleanup(func() { _ = p.Shutdown(context.WithoutCancel(t.Context())) })
	return p
}

// of returns the names of a trace's spans, sorted.
func (c *otlpCollector) of(trace string) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if fmt.Sprintf("%x", s.TraceId) == trace {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// One published event is one trace: the service's span, the publication, the worker's stages, and each node that dropped what it made stale.
// One that is not sampled leaves no span.
func TestTraceFromTheServiceToEachNode(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	kafka := testenv.Kafka(t)
	lines := kafka.CreateTopic(t, 1)
	w := newWorld(t, nil, map[string]string{
		"items.yaml": fmt.Sprintf(itemDataset, kafka.Topic(t)), "items.json": itemSchema, "lines.yaml": fmt.Sprintf(lineYAML, lines), "lines.json": lineSchema,
	})
	w.env = append(w.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_SERVICE_NAME=e2e")
	w.startWorker()
	all := c.provider(t, sdktrace.AlwaysSample())
	for i := range 3 {
		rdb := redis.NewClient(&redis.Options{Addr: w.redis.Addr})
		n, err := invalidation.Join(t.Context(), rdb, invalidation.Config{Namespace: w.ns, Datasets: w.datasets, ID: fmt.Sprintf("n%d", i), TracerProvider: all})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close(); rdb.Close() })
	}
	publish := func(p *sdktrace.TracerProvider, key string) (trace string) {
		out, err := producer.New(producer.Config{Brokers: w.kafka.Brokers, Datasets: w.datasets, Source: "//e2e/traces", TracerProvider: p})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		ctx, span := p.Tracer("shop").Start(t.Context(), "PUT /items")
		defer span.End()
		if _, err := out.Publish(ctx, upsert("items", key, 1, "x")); err != nil {
			t.Fatal(err)
		}
		return span.SpanContext().TraceID().String()
	}
	hidden := publish(c.provider(t, sdktrace.NeverSample()), "hidden")
	shown := publish(all, "shown")
	want := "PUT /items,freshet apply,freshet drop,freshet drop,freshet drop,freshet emit,freshet fetch,freshet process,freshet publish"
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		if got := strings.Join(c.of(shown), ","); got != want {
			return fmt.Errorf("the trace has %s", got)
		}
		return nil
	})
	w.reaches(2, "SELECT COUNT(*) FROM items")
	if got := c.of(hidden); len(got) > 0 {
		t.Errorf("a trace that is not sampled has %v", got)
	}
	captured := "0af7651916cd43dd8448eb211c80319c"
	rec := changed(lines, "c", 1, 5)
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte(`"00-` + captured + `-b7ad6b7169203331-01"`)})
	if err := kafka.Client(t).ProduceSync(t.Context(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	stages := "freshet apply,freshet drop,freshet drop,freshet drop,freshet emit,freshet fetch,freshet process"
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		if got := strings.Join(c.of(captured), ","); got != stages {
			return fmt.Errorf("the trace of the captured row has %s", got)
		}
		return nil
	})
	row := w.enqueueTraced(all)
	want = "PUT /items," + stages
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		if got := strings.Join(c.of(row), ","); got != want {
			return fmt.Errorf("the trace of the outbox's row has %s", got)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.spans, func(s *otlp.Span) bool {
		return s.Name == "freshet batch" && len(s.Links) == 1 && fmt.Sprintf("%x", s.Links[0].TraceId) == shown
	}) {
		t.Error("no span of a batch links to the trace")
	}
}

// enqueueTraced commits an event into an outbox that a relay publishes, inside of a span, and returns its trace.
func (w *world) enqueueTraced(p *sdktrace.TracerProvider) (trace string) {
	w.t.Helper()
	db := w.source()
	w.startRelay("r1")
	ob, err := outbox.New(outbox.Config{Datasets: w.datasets})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, span := p.Tracer("shop").Start(w.t.Context(), "PUT /items")
	defer span.End()
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		_, err = ob.Enqueue(ctx, tx, schemas.Event{Dataset: "items", Key: "row", Op: schemas.Upsert, Data: []byte(`{"id":"row","n":1,"body":"x"}`)})
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return span.SpanContext().TraceID().String()
}
