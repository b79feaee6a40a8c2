package sse

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A stream that has nothing to say for longer than a write may take continues, by HTTP/2 as well.
func TestSilentStreamGoesOn(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			st := New(w)
			st.wait = 20 * time.Millisecond
			if err := st.Send("a", "1", 1); err != nil {
				t.Errorf("first event: %v", err)
			}
			<-time.After(10 * st.wait)
			st.wait = sendWait
			if err := st.Send("b", "2", 2); err != nil {
				t.Errorf("event after a silence, HTTP/2 %t: %v", http2, err)
			}
		}))
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		sc := bufio.NewScanner(res.Body)
		for sc.Scan() {
			if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
				got = append(got, data)
			}
		}
		if want := "1 2"; strings.Join(got, " ") != want || sc.Err() != nil || (res.ProtoMajor == 2) != http2 {
			t.Errorf("%s: got %q, %v; want %q", res.Proto, got, sc.Err(), want)
		}
		res.Body.Close()
		srv.Close()
	}
}

func TestSilentStreamBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		st := New(rec)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
		defer cancel()
		if err := st.Beat(ctx); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(rec.Body.String(), ": still here\n\n"); n != 4 {
			t.Errorf("%d beats in a minute, want 4", n)
		}
	})
}
