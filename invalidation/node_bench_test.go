//go:build unix

package invalidation_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// How many nodes follow in BenchmarkFleet, and how many keys a second change, lane.MaxKeys to a message.
const (
	fleetNodes = 200
	fleetKeys  = 5000
)

// BenchmarkFleet is the cost of a node that follows a lane into which 5 000 keys a second are emitted: 200 nodes in this
// process, each with connections of its own and a cache. What the emitting costs is taken from a run without nodes and
// left out; the poll that each node makes once a second is in it. Run it for some seconds: -benchtime 10s.
func BenchmarkFleet(b *testing.B) {
	var alone time.Duration
	b.Run("nodes=0", func(b *testing.B) { alone = fleet(b, 0) })
	b.Run(fmt.Sprintf("nodes=%d", fleetNodes), func(b *testing.B) {
		each := float64(fleet(b, fleetNodes)-alone) / fleetNodes
		b.ReportMetric(each/1e3, "µs-cpu/node/message")
		b.ReportMetric(each/1e9*fleetKeys/lane.MaxKeys*100, "%core/node")
	})
}

// fleet returns the CPU time of this process for each message.
func fleet(b *testing.B, nodes int) time.Duration {
	b.Helper()
	r := newRig(b, testenv.StartRedis(b, testenv.RedisOptions{}))
	r.setRoot(nil)
	var items []lane.Item
	for i := range lane.MaxKeys {
		key := fmt.Sprint(i)
		items = append(items, lane.Item{Key: "user:" + key, Version: r.db.change(key, false).version})
	}
	var all []*invalidation.Node
	for range nodes {
		n := r.join(invalidation.Config{PollInterval: time.Second})
		wantGet(b, r.cache(n), "1", "1@1")
		all = append(all, n)
	}
	pace := time.NewTicker(time.Second * lane.MaxKeys / fleetKeys)
	defer pace.Stop()
	began := cpu(b)
	for b.Loop() {
		<-pace.C
		for i := range items {
			items[i].Version++
		}
		r.emit(items)
	}
	for _, n := range all {
		r.current(n)
	}
	b.ReportMetric(0, "ns/op")
	return (cpu(b) - began) / time.Duration(b.N)
}

// cpu is the time that this process has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
