package invalidation_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// BenchmarkEmit invalidates the same 100 keys in three ways in turn, so that the ratios mean something on a busy
// machine: one emission, an emission per key, and what a service without Freshet does, DEL and PUBLISH per key.
func BenchmarkEmit(b *testing.B) {
	srv := testenv.Redis(b)
	rdb, ns := srv.Client(b), srv.Namespace(b)
	e := newEmitter(b, rdb, invalidation.EmitterConfig{Namespace: ns})
	root := newRoot(b, e)
	k := lane.KeysOf(ns, 0)
	em := emission(0, -1, lane.MaxKeys, 0)
	for i := range em.Items {
		em.Items[i].Version = 1 << 40
	}
	emit := func(em lane.Emission) {
		if r, err := e.Emit(b.Context(), 0, root, 0, em); err != nil || r.Status != lane.OK {
			b.Fatal(r, err)
		}
	}
	var batched, single, plain time.Duration
	value := make([]byte, 400)
	fill := func(name func(string) string) {
		p := rdb.Pipeline()
		for _, it := range em.Items {
			p.Set(b.Context(), name(it.Key), value, time.Minute)
		}
		if _, err := p.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		fill(k.Value)
		t := time.Now()
		emit(em)
		batched += time.Since(t)

		fill(k.Value)
		t = time.Now()
		for i := range em.Items {
			one := em
			one.Items = em.Items[i : i+1]
			emit(one)
		}
		single += time.Since(t)

		fill(func(key string) string { return ns + key })
		t = time.Now()
		for _, it := range em.Items {
			plainDelete(b, rdb, ns, it)
		}
		plain += time.Since(t)
	}
	n := float64(b.N * len(em.Items))
	b.ReportMetric(float64(batched)/n, "ns/key-batched")
	b.ReportMetric(float64(single)/n, "ns/key-single")
	b.ReportMetric(float64(plain)/n, "ns/key-del+publish")
	b.ReportMetric(float64(plain)/float64(batched), "x-faster-than-del+publish")
	b.ReportMetric(float64(single)/float64(batched), "x-faster-than-single")
}

func plainDelete(b *testing.B, rdb *redis.Client, ns string, it lane.Item) {
	b.Helper()
	if err := rdb.Del(b.Context(), ns+it.Key).Err(); err != nil {
		b.Fatal(err)
	}
	if err := rdb.Publish(b.Context(), ns, it.Key+" "+strconv.FormatInt(it.Version, 10)).Err(); err != nil {
		b.Fatal(err)
	}
}
