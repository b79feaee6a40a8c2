package producer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// A producer is what a node needs to invalidate.
var _ invalidation.Publisher = (*producer.Producer)(nil)

func TestInvalidate(t *testing.T) {
	topic := schemas.InvalidationTopic("shop")
	c := cluster(t, kfake.SeedTopics(2, topic))
	p := open(t, producer.Config{Brokers: c.ListenAddrs(), Source: "//shop/db"})
	want := map[string]bool{"tag org:1": true}
	var names []string
	for i := range schemas.MaxInvalidationNames + 10 { // two records
		names = append(names, fmt.Sprint("user:", i))
		want["name "+names[i]] = true
	}
	tok, err := p.Invalidate(t.Context(), "shop", names, []string{"org:1"})
	if err != nil || tok.IsZero() {
		t.Fatalf("token %v, %v", tok.Offsets(), err)
	}
	kc, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer kc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	got := map[string]bool{}
	for len(got) < len(want) && ctx.Err() == nil {
		kc.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			rec := schemas.Record{Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				rec.Headers = append(rec.Headers, schemas.Header{Key: h.Key, Value: h.Value})
			}
			v, err := schemas.DecodeInvalidation(rec)
			if err != nil {
				t.Error(err)
			}
			for _, n := range v.Names {
				got["name "+n] = true
			}
			for _, n := range v.Tags {
				got["tag "+n] = true
			}
		})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the topic lacks something (-want +got):\n%s", diff)
	}
}

func TestInvalidateRefuses(t *testing.T) {
	c := cluster(t)
	p := open(t, producer.Config{Brokers: c.ListenAddrs()})
	if _, err := p.Invalidate(t.Context(), "shop", []string{"a\nb"}, nil); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("a control character: %v, want ErrInvalid", err)
	}
	if _, err := p.Invalidate(t.Context(), "nowhere", []string{"a"}, nil); !errors.Is(err, producer.ErrNoTopic) {
		t.Errorf("a namespace without topic: %v, want ErrNoTopic", err)
	}
	if tok, err := p.Invalidate(t.Context(), "shop", nil, nil); err != nil || !tok.IsZero() {
		t.Errorf("nothing: %v, %v", tok.Offsets(), err)
	}
}
