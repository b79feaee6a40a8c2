package admin_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

// counted is a configuration whose Kafka client counts the connections that it opens.
func counted(t *testing.T, dials *atomic.Int64) func(*admin.Config) {
	return func(c *admin.Config) {
		var d net.Dialer
		kafka, err := kafkalog.New(kafkalog.Config{
			Brokers: testenv.Kafka(t).Brokers, KeepIdle: time.Minute,
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return d.DialContext(ctx, network, addr)
			},
		})
		must(t, err)
		t.Cleanup(func() { kafka.Close() })
		c.Kafka = kafka
	}
}

// Viewers that poll cost the servers behind one look a second, however many they are, and that costs Kafka no connection.
func TestPollingIsShared(t *testing.T) {
	var dials atomic.Int64
	r := newRig(t, counted(t, &dials))
	r.publish(3, 2)
	paths := []string{"/v1/lag", "/v1/nodes", "/v1/records/items/k1"}
	for _, p := range paths {
		r.want(200, "viewer", "GET", p, nil)
	}
	before, began := r.stats().Looks, time.Now()
	opened := dials.Load()
	const viewers, rounds = 30, 10
	var wg sync.WaitGroup
	for range viewers {
		wg.Go(func() {
			for i := range rounds {
				if a := r.do("viewer", "GET", paths[i%len(paths)], nil); a.status != 200 {
					t.Errorf("status %d\n%s", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	looks, most := r.stats().Looks-before, uint64(len(paths))*uint64(time.Since(began).Seconds()+2)
	t.Logf("%d requests: %d looks, %d connections to Kafka", viewers*rounds, looks, dials.Load()-opened)
	if looks > most {
		t.Errorf("%d requests cost %d looks, want at most %d", viewers*rounds, looks, most)
	}
	// Each change makes all be asked for again.
	const changes = 5
	before = r.stats().Looks
	for range changes {
		r.want(202, "operator", "POST", "/v1/records/items/k1/invalidate", map[string]string{"reason": "a test"})
		for _, p := range paths {
			r.want(200, "viewer", "GET", p, nil)
		}
	}
	if looks = r.stats().Looks - before; looks < changes*uint64(len(paths)) {
		t.Errorf("%d looks after %d changes", looks, changes)
	}
	if n := dials.Load() - opened; n > 2 { // two readers at once may want one more than before
		t.Errorf("polling opened %d connections to Kafka", n)
	}
}

// What was changed shows at once to the one who changed it.
func TestSharedAnswersAreForgottenAfterAChange(t *testing.T) {
	r := newRig(t, nil)
	lag := func() (out struct{ Items []api.Partition }) {
		r.want(200, "viewer", "GET", "/v1/lag", nil).into(t, &out)
		return out
	}
	for i := range 5 {
		if lag().Items[0].Paused {
			t.Fatal("paused before it was")
		}
		r.want(200, "operator", "POST", "/v1/datasets/items/pause", map[string]string{"reason": fmt.Sprint("a test ", i)})
		if !lag().Items[0].Paused {
			t.Error("the pause does not show")
		}
		r.want(200, "operator", "POST", "/v1/datasets/items/resume", map[string]string{"reason": "a test"})
	}
}
