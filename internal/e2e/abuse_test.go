package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

const (
	// abuseBody is the size of each body, abuseBodies how many come at once, and abuseRSS what all of them may cost.
	abuseBody   = 8 << 20
	abuseBodies = 8
	abuseRSS    = 64 << 20
)

// repeated is a body of n bytes: head, item as often as it fits, tail.
func repeated(head, item, tail string, n int) io.Reader {
	times := (n - len(head) - len(tail)) / len(item)
	readers := []io.Reader{strings.NewReader(head)}
	const batch = 1 << 10
	many := strings.Repeat(item, batch)
	for ; times >= batch; times -= batch {
		readers = append(readers, strings.NewReader(many))
	}
	return io.MultiReader(append(readers, strings.NewReader(strings.Repeat(item, times)+tail))...)
}

// Whatever a body holds, the API's process stays small: the sum of the bodies that it holds is bounded, and so is what is made of each.
func TestBodiesCostBoundedMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	w := itemWorld(t)
	url := w.api()
	event := func(id int, pad string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"//shop","type":"io.freshet.row.upsert.v1","subject":"items/a","partitionkey":"a","sequence":"%d","data":{"id":"a","n":1,"body":"x","note":"%s"}}`, id, id+1, pad)
	}
	large := event(7, strings.Repeat("x", 900_000))
	const batch, structured = "application/cloudevents-batch+json", "application/cloudevents+json"
	edit := "/v1/deadletters/a%2Fb%2F0@1.0/edit"
	base := rss(t, w.admin)
	for _, k := range []struct {
		name, path, contentType string
		body                    func() io.Reader
	}{
		{"batch of numbers", "/v1/events", batch, func() io.Reader { return repeated("[1", ",1", "]", abuseBody) }},
		{"batch of large events", "/v1/events", batch, func() io.Reader { return repeated("["+event(1, ""), ","+large, "]", abuseBody-1) }},
		{"batch in one event", "/v1/events", batch, func() io.Reader { return repeated("["+event(1, "")[:60]+`,"data":[1`, ",1", "]}]", abuseBody-1) }},
		{"structured numbers", "/v1/events", structured, func() io.Reader { return repeated(`{"data":[1`, ",1", "]}", abuseBody-1) }},
		{"structured names", "/v1/events", structured, func() io.Reader {
			var b strings.Builder
			b.WriteString(`{"a":1`)
			for i := 0; b.Len() < abuseBody-20; i++ {
				fmt.Fprintf(&b, `,"%d":1`, i)
			}
			b.WriteString("}")
			return strings.NewReader(b.String())
		}},
		{"structured string", "/v1/events", structured, func() io.Reader { return repeated(`{"data":"`, `\n`, `"}`, abuseBody-1) }},
		{"nested", "/v1/events", structured, func() io.Reader { return repeated(`{"data":`, "[", "", abuseBody-1) }},
		{"binary", "/v1/events", "application/json", func() io.Reader { return repeated(`{"id":[1`, ",1", "]}", abuseBody-1) }},
		{"edit", edit, "application/json", func() io.Reader { return repeated(`{"why":"abc","data":[1`, ",1", "]}", abuseBody-1) }},
		{"edit of the greatest size", edit, "application/json", func() io.Reader { return repeated(`{"why":"abc","data":{"a":[1`, ",1", "]}}", 1_000_000) }},
		{"names", "/v1/invalidations", "application/json", func() io.Reader { return repeated(`{"names":[1`, ",1", "]}", 1<<20-1) }},
		{"reason", "/v1/datasets/items/pause", "application/json", func() io.Reader { return repeated(`{"reason":[[1`, "],[1", "]]}", 1<<20-1) }},
	} {
		t.Run(strings.ReplaceAll(k.name, " ", "-"), func(t *testing.T) {
			for _, declared := range []bool{true, false} {
				rss(t, w.admin)
				statuses := sendAtOnce(t, url+k.path, k.contentType, declared, k.body)
				after := peak(t, w.admin)
				t.Logf("declared %t: %d MiB at first, peak %d MiB, %v", declared, base>>20, after>>20, statuses)
				if after-base > abuseRSS {
					t.Errorf("%d bodies took %d MiB, want at most %d", abuseBodies, (after-base)>>20, abuseRSS>>20)
				}
				for s := range statuses {
					if s == http.StatusInternalServerError {
						t.Errorf("statuses %v", statuses)
					}
				}
			}
		})
	}
}

// 200 viewers ask for lag, nodes and a record once a second each, beside 50 streams and 1,000 events a second. FRESHET_FAULTS=full
// holds the figures to their bounds; otherwise the campaign is small and only the answers count.
func TestViewersPoll(t *testing.T) {
	viewers, streams, rate, last := 20, 10, 100, 3*time.Second
	full := os.Getenv("FRESHET_FAULTS") == "full"
	if full {
		viewers, streams, rate, last = 200, 50, 1000, 30*time.Second
	}
	w := itemWorld(t)
	w.env = append(w.env, "FRESHET_ADMIN__RATE=10000")
	_, url := w.serve("w1")
	w.node("n1")
	p := w.producer()
	ctx, cancel := context.WithTimeout(t.Context(), last)
	defer cancel()
	var wg sync.WaitGroup
	published := int64(0)
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for v := int64(1); ; v++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var evs []schemas.Event
			for k := range rate / 50 {
				evs = append(evs, upsert("items", fmt.Sprintf("k%d", k), v, "b"))
			}
			if _, err := p.Publish(ctx, evs...); err == nil {
				published += int64(len(evs))
			}
		}
	})
	get := func(path string, drain bool) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		if drain {
			err = nil
		}
		return res.StatusCode, err
	}
	for range streams {
		wg.Go(func() {
			if status, err := get("/v1/invalidations", true); ctx.Err() == nil {
				t.Errorf("a stream ended: %d, %v", status, err)
			}
		})
	}
	var mu sync.Mutex
	var times []time.Duration
	statuses := map[int]int{}
	for i := range viewers {
		wg.Go(func() {
			select { // they did not all begin at the same moment
			case <-ctx.Done():
			case <-time.After(time.Duration(i) * time.Second / time.Duration(viewers)):
			}
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for ctx.Err() == nil {
				for _, path := range []string{"/v1/lag", "/v1/nodes", fmt.Sprintf("/v1/records/items/k%d", i%10)} {
					began := time.Now()
					status, err := get(path, false)
					if ctx.Err() != nil {
						return
					}
					mu.Lock()
					if err == nil {
						times = append(times, time.Since(began))
					} else {
						t.Log(err)
					}
					statuses[status]++
					mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(times)
	if len(times) == 0 {
		t.Fatal("nothing was answered")
	}
	p99 := times[(len(times)*99+99)/100-1]
	t.Logf("%d viewers, %d streams, %.0f events/s: %d answers %v; p50 %v, p99 %v, slowest %v", viewers, streams, float64(published)/last.Seconds(),
		len(times), statuses, times[len(times)/2], p99, times[len(times)-1])
	if statuses[200] != len(times) {
		t.Errorf("statuses %v, want only 200", statuses)
	}
	if full && p99 >= time.Second {
		t.Errorf("p99 is %v", p99)
	}
}

// sendAtOnce posts abuseBodies bodies at the same time and counts the answers' statuses; 0 is none.
func sendAtOnce(t *testing.T, url, contentType string, declared bool, body func() io.Reader) map[int]int {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	statuses := map[int]int{}
	for range abuseBodies {
		wg.Go(func() {
			b := body()
			size := int64(-1)
			if declared {
				text, err := io.ReadAll(b)
				if err != nil {
					t.Error(err)
				}
				size, b = int64(len(text)), strings.NewReader(string(text))
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, io.NopCloser(b))
			if err != nil {
				t.Error(err)
				return
			}
			req.ContentLength = size
			req.Header.Set("Content-Type", contentType)
			if contentType == "application/json" {
				req.Header.Set("Ce-Specversion", "1.0")
			}
			status := 0
			res, err := http.DefaultTransport.RoundTrip(req)
			if err == nil {
				status = res.StatusCode
				res.Body.Close()
			} else if errors.Is(err, context.Canceled) {
				t.Error(err)
			} else {
				t.Log(err)
			}
			mu.Lock()
			statuses[status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	return statuses
}

// rss is the memory that a process has now; its peak begins again there.
func rss(t *testing.T, p *testenv.Process) int64 {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return memory(t, p, "VmRSS")
}

func peak(t *testing.T, p *testenv.Process) int64 { t.Helper(); return memory(t, p, "VmHWM") }

func memory(t *testing.T, p *testenv.Process, field string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("/proc has no %s", field)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
