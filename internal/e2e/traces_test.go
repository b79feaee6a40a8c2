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
	want = "PUT /items," + stages + ",freshet relay"
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		if got := strings.Join(c.of(row), ","); got != want {
			return fmt.Errorf("the trace of the outbox's row has %s", got)
		}
		return nil
	})
	for key, sent := range map[string]string{"posted": "ae1de5e4a1b2c3d4e5f60718293a4b5c", "unsampled": "be1de5e4a1b2c3d4e5f60718293a4b5c"} {
		w.postTraced(key, sent)
	}
	w.reaches(1, "SELECT COUNT(*) FROM items WHERE id = 'unsampled'")
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		got := strings.Join(c.of("ae1de5e4a1b2c3d4e5f60718293a4b5c"), ",")
		if want := strings.Replace(stages, "freshet apply", "freshet api,freshet apply", 1); got != want {
			return fmt.Errorf("the trace of the event that was posted has %s", got)
		}
		return nil
	})
	if got := c.of("be1de5e4a1b2c3d4e5f60718293a4b5c"); len(got) > 0 {
		t.Errorf("a request whose trace is not sampled has %v", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.under("freshet process", "freshet api") || !c.under("freshet process", "freshet relay") {
		t.Error("what was relayed or posted does not continue the span of the relay, or of the API")
	}
	if !slices.ContainsFunc(c.spans, func(s *otlp.Span) bool {
		return s.Name == "freshet batch" && len(s.Links) == 1 && fmt.Sprintf("%x", s.Links[0].TraceId) == shown
	}) {
		t.Error("no span of a batch links to the trace")
	}
}

// under reports whether a span of one name is a child of a span of another. The mutex is held.
func (c *otlpCollector) under(child, parent string) bool {
	ids := map[string]bool{}
	for _, s := range c.spans {
		if s.Name == parent {
			ids[string(s.SpanId)] = true
		}
	}
	return slices.ContainsFunc(c.spans, func(s *otlp.Span) bool { return s.Name == child && ids[string(s.ParentSpanId)] })
}

// postTraced publishes an event in binary mode over HTTP, as a client does whose tracing works; the trace of "unsampled" is not recorded.
func (w *world) postTraced(key, trace string) {
	w.t.Helper()
	flags := "01"
	if key == "unsampled" {
		flags = "00"
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.api()+"/v1/events", strings.NewReader(fmt.Sprintf(`{"id":%q,"n":1,"body":"x"}`, key)))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Traceparent": "00-" + trace + "-b7ad6b7169203331-" + flags, "Ce-Specversion": "1.0", "Ce-Id": key, "Ce-Source": "//e2e/traces",
		"Ce-Type": "io.freshet.row.upsert.v1", "Ce-Subject": "items/" + key, "Ce-Partitionkey": key, "Ce-Sequence": "1",
	} {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusAccepted {
		w.t.Fatalf("%s: %s, %v", res.Status, body, err)
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
