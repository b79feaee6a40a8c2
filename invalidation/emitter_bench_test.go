package invalidation_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// BenchmarkEmit invalidates the same 100 keys in four ways in turn, so that the ratios mean something on a busy machine:
// one emission, one in a namespace without hold, an emission per key, and what a service without Freshet does, DEL and
// PUBLISH per key. Each key has a value of 400 bytes. server-µs is what Redis reports that it spent
// in the commands themselves (INFO commandstats), server-cpu-µs what it computed in all, reading and answering included.
func BenchmarkEmit(b *testing.B) {
	srv := testenv.StartRedis(b, testenv.RedisOptions{})
	rdb := srv.Client(b)
	em := emission(0, -1, lane.MaxKeys, 0)
	emitter := func(ns string, hold time.Duration) (emit func(lane.Emission), name func(string) string) {
		e := newEmitter(b, rdb, invalidation.EmitterConfig{Namespace: ns, Hold: hold})
		root := newRoot(b, e)
		return func(em lane.Emission) {
			if r, err := e.Emit(b.Context(), 0, root, 0, em); err != nil || r.Status != lane.OK {
				b.Fatal(r, err)
			}
		}, lane.KeysOf(ns, 0).Value
	}
	emit, name := emitter("hold", 0)
	emitNoHold, nameNoHold := emitter("nohold", -1)
	plain := func(key string) string { return "plain:" + key }
	scripts := []string{"evalsha"} // what scripts call is in their time
	ways := []struct {
		title             string
		commands          []string // what the server's time is counted of
		name              func(string) string
		run               func()
		took, server, cpu time.Duration
	}{
		{title: "batched", commands: scripts, name: name, run: func() { emit(em) }},
		{title: "batched-hold-0", commands: scripts, name: nameNoHold, run: func() { emitNoHold(em) }},
		{title: "single", commands: scripts, name: name, run: func() {
			for i := range em.Items {
				one := em
				one.Items = em.Items[i : i+1]
				emit(one)
			}
		}},
		{title: "del+publish", commands: []string{"del", "publish"}, name: plain, run: func() {
			for _, it := range em.Items {
				plainDelete(b, rdb, plain(it.Key), it)
			}
		}},
	}
	value := make([]byte, 400)
	for b.Loop() {
		for i := range em.Items {
			em.Items[i].Version++
		}
		for i := range ways {
			w := &ways[i]
			p := rdb.Pipeline()
			for _, it := range em.Items {
				p.Set(b.Context(), w.name(it.Key), value, time.Minute)
			}
			if _, err := p.Exec(b.Context()); err != nil {
				b.Fatal(err)
			}
			before := serverTime(b, rdb, w.commands)
			asking := serverCPU(b, rdb)
			cpu := serverCPU(b, rdb)
			asking = cpu - asking
			t := time.Now()
			w.run()
			w.took += time.Since(t)
			w.cpu += serverCPU(b, rdb) - cpu - asking
			w.server += serverTime(b, rdb, w.commands) - before
		}
	}
	n := float64(b.N * len(em.Items))
	for _, w := range ways {
		b.ReportMetric(float64(w.took)/n, "ns/key-"+w.title)
		b.ReportMetric(float64(w.server)/1e3/n, "server-µs/key-"+w.title)
		b.ReportMetric(float64(w.cpu)/1e3/n, "server-cpu-µs/key-"+w.title)
	}
	b.ReportMetric(float64(ways[3].took)/float64(ways[0].took), "x-faster-than-del+publish")
	b.ReportMetric(float64(ways[3].cpu)/float64(ways[0].cpu), "x-less-server-cpu-than-del+publish")
}

func plainDelete(b *testing.B, rdb *redis.Client, name string, it lane.Item) {
	b.Helper()
	if err := rdb.Del(b.Context(), name).Err(); err != nil {
		b.Fatal(err)
	}
	if err := rdb.Publish(b.Context(), "plain", it.Key+" "+strconv.FormatInt(it.Version, 10)).Err(); err != nil {
		b.Fatal(err)
	}
}

// serverTime is what Redis has spent in some commands.
func serverTime(b *testing.B, rdb *redis.Client, commands []string) (sum time.Duration) {
	b.Helper()
	info, err := rdb.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if slices.Contains(commands, name) {
			_, usec, _ := strings.Cut(rest, "usec=")
			usec, _, _ = strings.Cut(usec, ",")
			n, err := strconv.ParseInt(usec, 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(n) * time.Microsecond
		}
	}
	return sum
}

// serverCPU is how long Redis has computed.
func serverCPU(b *testing.B, rdb *redis.Client) (sum time.Duration) {
	b.Helper()
	info, err := rdb.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, seconds, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_user" && name != "used_cpu_sys" {
			continue
		}
		d, err := time.ParseDuration(seconds + "s")
		if err != nil {
			b.Fatal(err)
		}
		sum += d
	}
	return sum
}
