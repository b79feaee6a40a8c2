package console

import (
	"bytes"
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/admin/sse"
)

const (
	// maxLive bounds how many live pages are open, maxPersonLive how many of them are one person's.
	maxLive       = 200
	maxPersonLive = 64
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
	if !c.live.enter(v.who.Name) {
		http.Error(w, "too many live pages are open", http.StatusServiceUnavailable)
		return
	}
	defer c.live.leave(v.who.Name)
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

// livePages counts the live pages that are open. Its zero value counts none.
type livePages struct {
	mu  sync.Mutex
	all int            // guarded by mu
	of  map[string]int // by name; guarded by mu
}

// enter reports whether one more of a person may open; if so, leave has to follow.
func (l *livePages) enter(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxLive || l.of[name] >= maxPersonLive {
		return false
	}
	if l.of == nil {
		l.of = map[string]int{}
	}
	l.all++
	l.of[name]++
	return true
}

func (l *livePages) leave(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.of[name]--; l.of[name] == 0 {
		delete(l.of, name)
	}
}
