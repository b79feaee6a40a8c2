package admin_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/testenv"
)

// Every route with a body refuses one of another type, and one above its limit whether or not its length is declared.
func TestBodiesOfTheWrongTypeOrSize(t *testing.T) {
	r := newRig(t, nil)
	seen := 0
	for _, route := range routesOf(t, r.want(200, "admin", "GET", "/openapi.json", nil).body) {
		method, path, _ := strings.Cut(route, " ")
		if method == http.MethodGet {
			continue
		}
		seen++
		path = strings.NewReplacer("{dataset}", "items", "{key}", "k1", "{node}", "n1", "{id}", "a@1.0").Replace(path)
		for _, media := range []string{"text/plain", "application/xml", "application/x-www-form-urlencoded", "nonsense/", "application/json-patch+json"} {
			a := r.do("admin", method, path, `{"reason":"abc","why":"abc"}`, "Content-Type", media)
			if a.status != http.StatusUnsupportedMediaType || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s with %s: status %d %s, want a problem with 415", route, media, a.status, a.header.Get("Content-Type"))
			}
		}
		media := "application/json; charset=utf-8"
		if path == "/v1/events" {
			media = "application/cloudevents+json"
		}
		for name, body := range map[string]io.Reader{
			"declared": bytes.NewReader(make([]byte, 9<<20)), "not declared": io.LimitReader(endlessSpaces{}, 9<<20),
		} {
			req, err := http.NewRequestWithContext(t.Context(), method, r.http.URL+path, body)
			must(t, err)
			req.Header.Set("Content-Type", media)
			req.Header.Set("Authorization", "Bearer "+r.tokens["admin"])
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Logf("%s: %v", route, err) // the connection is closed while the client still writes
				continue
			}
			if res.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s, %s 9 MiB: status %d, want 413", route, name, res.StatusCode)
			}
			res.Body.Close()
		}
	}
	if seen < 10 {
		t.Errorf("only %d routes take a body", seen)
	}
	if n := len(r.messages("from=start")); n != 0 {
		t.Errorf("refused requests published %d events", n)
	}
	// Binary mode: the content type is that of the data.
	r.want(202, "publisher", "POST", "/v1/events", `{"id":"a","n":1}`, "Content-Type", "application/json", "Ce-Specversion", "1.0", "Ce-Id", "e1",
		"Ce-Source", "//shop", "Ce-Type", "io.freshet.row.upsert.v1", "Ce-Subject", "items/a", "Ce-Sequence", "1")
}

type endlessSpaces struct{}

func (endlessSpaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// A large body that does not come keeps the place of large bodies, not that of small ones, and frees it when its client goes.
func TestALargeBodyDelaysNoSmallOne(t *testing.T) {
	r := newRig(t, nil)
	pr, pw := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", r.http.URL+"/v1/events", pr)
	must(t, err)
	req.ContentLength = 8 << 20
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("Authorization", "Bearer "+r.tokens["publisher"])
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
			res.Body.Close()
		}
	}()
	_, err = pw.Write(make([]byte, 1<<20)) // more than the sockets keep: the server reads it
	must(t, err)
	r.want(202, "publisher", "POST", "/v1/events", cloudEvent("a", 1), "Content-Type", "application/cloudevents+json")
	r.want(200, "operator", "POST", "/v1/datasets/items/pause", map[string]string{"reason": "a test"})
	if got := r.stats().BodyBytes; got != 8<<20 {
		t.Errorf("the bodies that are held count %d bytes, want those of the large one", got)
	}
	cancel()
	must(t, pw.CloseWithError(context.Canceled))
	<-done
	large := "[" + strings.Repeat(" ", 1<<20) + cloudEvent("a", 2) + "]"
	r.want(202, "publisher", "POST", "/v1/events", large, "Content-Type", "application/cloudevents-batch+json")
	testenv.Eventually(t, 30*time.Second, func(context.Context) error {
		if got := r.stats().BodyBytes; got != 0 {
			return statusError(got)
		}
		return nil
	})
}

func (r *rig) stats() admin.Stats { return r.server.Stats() }
