package console

import (
	"bytes"
	"hash/maphash"
	"net/http"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/admin/sse"
)

const (
	// maxLive bounds how many live pages are open.
	maxLive = 200
	// beatEvery is how often a stream without news reports that it lives, so that proxies keep it.
	beatEvery = 15 * time.Second
)

// streams reports whether a request is an EventSource's.
func streams(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// follow sends a screen's content when it differs from what was sent before, until the page is closed, the person may no longer see it, or
// the server stops.
func (c *Console) follow(w http.ResponseWriter, v *visit, s *screen) {
	if c.live.Add(1) > maxLive {
		c.live.Add(-1)
		http.Error(w, "too many live pages are open", http.StatusServiceUnavailable)
		return
	}
	defer c.live.Add(-1)
	if s.every == 0 {
		w.WriteHeader(http.StatusNoContent) // an EventSource does not try again
		return
	}
	stream := sse.New(w)
	seed := maphash.MakeSeed()
	var last uint64
	said := time.Now()
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		select {
		case <-v.Context().Done():
			return
		case <-c.cfg.Draining.Done():
			return
		case <-tick.C:
		}
		now, ok := c.keeper.Find(&answer{header: http.Header{}}, v.Request)
		if !ok {
			_ = stream.Send("signed-out", "", nil)
			return
		}
		v.who.Principal = now.Principal // the role may be another one by now; the form's secret stays
		p, _ := c.load(v, s)
		b, err := c.views.content(p)
		if err != nil {
			c.cfg.Logger.Error("live page cannot be shown", "page", p.Name, "error", err)
			return
		}
		b = bytes.TrimSpace(b)
		if now := maphash.Bytes(seed, b); now != last {
			last, said = now, time.Now()
			err = stream.Send("content", "", string(b))
		} else if time.Since(said) > beatEvery {
			said = time.Now()
			err = stream.Write(": here\n\n")
		}
		if err != nil {
			return
		}
	}
}
