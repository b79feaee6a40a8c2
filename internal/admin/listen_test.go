package admin_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// run serves r's API on a listener of its own until the test ends, and returns its address.
func (r *rig) run() (address string, stop func() error) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = r.server.Run(ctx) })
	stop = func() error { cancel(); wg.Wait(); return err }
	r.t.Cleanup(func() { _ = stop() })
	testenv.Eventually(r.t, 30*time.Second, func(context.Context) error {
		if address = r.server.Addr(); address == "" {
			return errors.New("it does not listen yet")
		}
		return nil
	})
	return address, stop
}

func TestTLSAndClientCertificates(t *testing.T) {
	ours, theirs := testenv.NewAuthority(t), testenv.NewAuthority(t)
	r := newRig(t, func(c *admin.Config) {
		c.Listen = "127.0.0.1:0"
		c.TLS = &tls.Config{Certificates: []tls.Certificate{ours.Sign(t)}, ClientCAs: ours.Pool, ClientAuth: tls.RequireAndVerifyClientCert}
	})
	address, stop := r.run()
	get := func(c *tls.Config) (int, error) {
		tr := &http.Transport{TLSClientConfig: c}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+address+"/v1/datasets", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+r.tokens["viewer"])
		res, err := tr.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		res.Body.Close()
		return res.StatusCode, nil
	}
	mine := ours.Sign(t)
	for name, c := range map[string]*tls.Config{
		"no certificate":    {RootCAs: ours.Pool},
		"another authority": {RootCAs: ours.Pool, Certificates: []tls.Certificate{theirs.Sign(t)}},
		"unknown server":    {RootCAs: theirs.Pool, Certificates: []tls.Certificate{mine}},
		"old TLS":           {RootCAs: ours.Pool, Certificates: []tls.Certificate{mine}, MaxVersion: tls.VersionTLS11},
	} {
		if status, err := get(c); err == nil {
			t.Errorf("%s: got %d, want no connection", name, status)
		}
	}
	if status, err := get(&tls.Config{RootCAs: ours.Pool, Certificates: []tls.Certificate{mine}}); err != nil || status != 200 {
		t.Errorf("with a certificate and a token: %d, %v", status, err)
	}
	if err := stop(); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestLongHeadersAreCut(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Listen = "127.0.0.1:0" })
	address, _ := r.run()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/livez", nil)
	must(t, err)
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("64 KiB of headers: got %d", res.StatusCode)
		}
	}
}

func TestReadyFollowsTheProcess(t *testing.T) {
	var why, part []string
	r := newRig(t, func(c *admin.Config) {
		c.Beside = func() listener.Readiness { return listener.Readiness{NotReady: why, Degraded: part} }
		c.Listen = "127.0.0.1:0"
	})
	_, stop := r.run()
	r.want(200, "", "GET", "/readyz", nil)
	why = []string{"waiting for the consumer group"}
	if got := r.want(503, "", "GET", "/readyz", nil); strings.Contains(string(got.body), "consumer group") {
		t.Errorf("the reason is shown without a token: %s", got.body)
	}
	if got := r.want(503, "viewer", "GET", "/readyz", nil); !strings.Contains(string(got.body), "consumer group") {
		t.Errorf("the reason is not shown to a viewer: %s", got.body)
	}
	r.want(503, "", "GET", "/readyz?role=worker", nil)
	r.want(200, "", "GET", "/readyz?role=admin", nil)
	r.want(422, "", "GET", "/readyz?role=king", nil)
	why, part = nil, []string{"dataset items is paused"}
	if got := string(r.want(200, "viewer", "GET", "/readyz?role=worker", nil).body); !strings.Contains(got, `"status":"degraded","why":["dataset items is paused"]`) {
		t.Errorf("with a paused dataset: %s", got)
	}
	if got := string(r.want(200, "", "GET", "/readyz", nil).body); !strings.Contains(got, `"degraded"`) || strings.Contains(got, "items") {
		t.Errorf("with a paused dataset, without a token: %s", got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"", "?role=admin", "?role=worker"} {
		if got := string(r.want(503, "", "GET", "/readyz"+role, nil).body); !strings.Contains(got, `"draining"`) {
			t.Errorf("at the end: %s", got)
		}
	}
	r.want(200, "", "GET", "/livez", nil)
}

// An answer with content is bounded by bytes, and its next page continues where it ended.
func TestAnswersAreBounded(t *testing.T) {
	r := newRig(t, nil)
	const events, size = 24, 900_000
	pad := strings.Repeat("x", size)
	for v := int64(1); v <= events; v++ {
		_, err := r.producer.Publish(t.Context(), schemas.Event{Dataset: "items", Key: "k", Op: schemas.Upsert, Version: v, Data: []byte(`{"id":"k","pad":"` + pad + `"}`)})
		must(t, err)
	}
	const most = 10 << 20
	seen, from, pages := 0, "start", 0
	part := strconv.Itoa(int(kafkalog.PartitionOf([]byte("k"), 2)))
	for seen < events && pages < events {
		var page struct {
			Items []api.Message
			Next  map[string]int64
		}
		a := r.want(200, "operator", "GET", "/v1/messages?dataset=items&data=true&limit=1000&partition="+part+"&from="+from, nil)
		if a.into(t, &page); len(a.body) > most || len(page.Items) == 0 {
			t.Fatalf("a page has %d bytes, %d items", len(a.body), len(page.Items))
		}
		seen, from, pages = seen+len(page.Items), strconv.FormatInt(page.Next[part], 10), pages+1
	}
	if seen != events || pages < 2 {
		t.Errorf("%d pages have %d of %d messages", pages, seen, events)
	}
	var rec api.Record
	a := r.want(200, "operator", "GET", "/v1/records/items/k?data=true&events=100", nil)
	a.into(t, &rec)
	if n := len(rec.Kafka.Events); len(a.body) > most || n == 0 || rec.Kafka.Events[n-1].Version != events {
		t.Errorf("a record has %d bytes, %d events", len(a.body), n)
	}
}

// Connections that ask nothing, and clients that do not read their answers, do not block the probes.
func TestProbesAnswerBesideAbuse(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Listen = "127.0.0.1:0" })
	address, _ := r.run()
	dial := func(text string) {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", address)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		_, err = io.WriteString(c, text)
		must(t, err)
	}
	ask := "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + r.tokens["viewer"] + "\r\n\r\n"
	for range 100 {
		dial(strings.Repeat(ask, 200)) // the answers are more than the sockets hold
	}
	for range 1100 {
		dial("")
	}
	var slowest time.Duration
	for i := range 50 {
		began := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+[]string{"/livez", "/readyz"}[i%2], nil)
		must(t, err)
		req.Close = true
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("probe: %v %v", res, err)
		}
		res.Body.Close()
		slowest = max(slowest, time.Since(began))
	}
	st := r.stats()
	t.Logf("slowest of 50 probes: %v; %+v", slowest, st)
	if st.Connections.Open > listener.DefaultMaxConns || st.Connections.Displaced == 0 {
		t.Errorf("connections: %+v", st.Connections)
	}
}
