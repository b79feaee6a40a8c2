package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/prom"
	"github.com/freshet/freshet/schemas"
)

// serveNodes starts three nodes of a service behind HAProxy with the deployed configuration, and a user who reads all the time. The nodes' way
// to Redis is a link; their metrics are at addresses that the admin API lists.
func (w *watched) serveNodes(haproxy string) {
	t := w.t
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.site = "http://" + l.Addr().String()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(haproxy, "-db", "-f", "../../deploy/haproxy/haproxy.cfg")
	cmd.ExtraFiles = []*os.File{f} // the child's descriptor 3: the port cannot be taken in between
	cmd.Env = append(os.Environ(), "LISTEN=fd@3")
	for i := range nodes {
		cmd.Env = append(cmd.Env, fmt.Sprintf("NODE%d=%s", i+1, w.serveNode(fmt.Sprintf("n%d", i+1))))
	}
	testenv.StartProcess(t, "haproxy", cmd)
	if err := errors.Join(f.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		_, err := w.read(ctx, "a")
		return err
	})
	w.user = &user{end: make(chan struct{})}
	w.user.wg.Go(func() { w.user.live(w) })
	t.Cleanup(w.leave)
}

// serveNode joins a node and serves it over HTTP.
func (w *watched) serveNode(id string) (address string) {
	t := w.t
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	address = server.Listener.Addr().String()
	linked := redis.NewClient(&redis.Options{Addr: w.redisLink.Addr})
	n, err := invalidation.Join(t.Context(), linked, invalidation.Config{Namespace: w.ns, Datasets: w.datasets, ID: id, Address: address})
	if err != nil {
		t.Fatal(err)
	}
	items, err := invalidation.NewCache(n, invalidation.CacheConfig[item]{Dataset: "items", Load: w.load})
	if err != nil {
		t.Fatal(err)
	}
	w.node1 = n
	reg := prometheus.NewRegistry()
	reg.MustRegister(prom.NewCollector(n))
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.Handle("GET /cachez", n.CheckHandler())
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		v, err := items.Get(r.Context(), r.PathValue("id"))
		if err != nil && !errors.Is(err, invalidation.ErrNotFound) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(v) // a reader that is gone asks again
	})
	t.Cleanup(func() {
		server.Close()
		n.Close()
		linked.Close()
	})
	return address
}

// read reads an item through the balancer; one that does not exist has no version.
func (w *watched) read(ctx context.Context, id string) (v item, err error) {
	status, body, err := fetch(ctx, w.site+"/items/"+id)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d: %s", status, body)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &v)
	}
	return v, err
}

// user reads through the balancer until the end.
type user struct {
	wg       sync.WaitGroup
	end      chan struct{}
	once     sync.Once
	requests int
	failures []string
}

func (u *user) live(w *watched) {
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for {
		select {
		case <-u.end:
			return
		case <-beat.C:
		}
		u.requests++
		if _, err := w.read(context.Background(), "a"); err != nil {
			u.failures = append(u.failures, fmt.Sprintf("%s: %v", time.Now().Format(time.TimeOnly), err))
		}
	}
}

// leave ends the user. No fault of Freshet may have failed a request.
func (w *watched) leave() {
	w.user.once.Do(func() {
		close(w.user.end)
		w.user.wg.Wait()
		if !w.t.Failed() && w.user.requests < 100 || len(w.user.failures) > 0 {
			w.t.Errorf("%d of %d requests failed through HAProxy:\n%s", len(w.user.failures), w.user.requests, strings.Join(w.user.failures, "\n"))
		}
		w.t.Logf("%d requests through HAProxy", w.user.requests)
	})
}

// joinWrongly joins a node whose declarations are not the workers', and one in a namespace that has no lanes, until leave.
func (w *watched) joinWrongly(rdb redis.UniversalClient) (leave func()) {
	t := w.t
	t.Helper()
	d, _ := w.datasets.Get("items")
	other, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte(strings.Replace(fmt.Sprintf(itemDataset, d.Topic), "item:", "thing:", 1))}, "items.json": {Data: []byte(itemSchema)},
	})
	if err != nil {
		t.Fatal(err)
	}
	// freshet grants keeps the admin API's account in its own namespace, where it cannot see nodes of others.
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", w.account("admin"), "~{fr:*:nodes}:n:*").Err(); err != nil {
		t.Fatal(err)
	}
	var all []*invalidation.Node
	for _, cfg := range []invalidation.Config{
		{Namespace: w.ns, Datasets: other, ID: "outdated"}, {Namespace: w.ns + "-typo", Datasets: w.datasets, ID: "lost", JoinWait: time.Millisecond},
	} {
		n, err := invalidation.Join(t.Context(), rdb, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		all = append(all, n)
	}
	if _, err := invalidation.NewCache(all[0], invalidation.CacheConfig[item]{Dataset: "items", Load: w.load}); err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, n := range all {
			n.Close()
		}
	}
}

// program finds one, also where daemons are.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	testenv.Skip(t, name+" is not installed (Debian: "+name+")")
	return ""
}
