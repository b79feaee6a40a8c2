package invalidation

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/invalidation/lane"
)

// This file is how a filler talks to the shared tier: for one key, and for many in one round trip.

// askMany asks the shared tier for all flights in one round trip.
func (fl *filler[V]) askMany(ctx context.Context, flights []*flight[V]) {
	var lookups []lane.Lookup
	var asking []*flight[V]
	for _, f := range flights {
		f.known = true
		if f.asked.bypass = fl.passed(f); f.asked.bypass != noBypass {
			continue
		}
		if fl.cfg.LocalOnly {
			f.asked = f.alone()
			continue
		}
		lookups = append(lookups, lane.Lookup{Key: f.name, Token: fl.token(f.name)})
		asking = append(asking, f)
	}
	if len(lookups) == 0 {
		return
	}
	fl.node.scripts.GetMany(ctx, lookups)
	for i, f := range asking {
		f.asked = fl.answered(f, lookups[i].Token, lookups[i].Reply, lookups[i].Err)
	}
}

// store writes a loaded value into the shared tier, unless storeMany did.
func (fl *filler[V]) store(ctx context.Context, f *flight[V], token string, l Loaded[V]) (lane.FillStatus, error) {
	if done := f.stored; done != nil {
		f.stored = nil
		return done.Status, done.Err //nolint:wrapcheck // it has what Fill's would have
	}
	if r := f.request; r != nil {
		f.request = nil
		return fl.node.scripts.Fill(ctx, *r) //nolint:wrapcheck // the caller counts it
	}
	r, err := fl.request(f.name, token, l)
	if err != nil {
		return 0, err
	}
	return fl.node.scripts.Fill(ctx, r) //nolint:wrapcheck // the caller counts it
}

func (fl *filler[V]) request(name, token string, l Loaded[V]) (lane.FillRequest, error) {
	data, err := fl.encode(l)
	return lane.FillRequest{
		Key: name, Token: token, Version: l.Version, Value: data, Tags: l.Tags, TTL: fl.local.spread(fl.cfg.TTL), Primary: l.From == Primary,
	}, err
}

// prepared is request for several flights: what the codec cannot write is left to each, which reports it.
func (fl *filler[V]) prepared(name, token string, l Loaded[V]) (r lane.FillRequest, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	r, err := fl.request(name, token, l)
	return r, err == nil
}

// storeMany writes in one round trip what LoadMany returned for flights that hold a lease and can use it; behind: those that
// can be are answered before that.
func (fl *filler[V]) storeMany(ctx context.Context, flights []*flight[V], behind bool) {
	if fl.cfg.LocalOnly {
		return
	}
	var fillings []lane.Filling
	var storing []*flight[V]
	for _, f := range flights {
		if p, a := f.loaded, &f.asked; p != nil && p.err == nil && p.panicked == "" && a.bypass == noBypass && a.reply.Status == lane.GetLease &&
			(p.loaded.From == Primary || !fl.loads.primaryOnly(a.reply.Floor) && p.loaded.Version >= a.reply.Floor) {
			if r, ok := fl.prepared(f.name, a.token, p.loaded); ok {
				fillings = append(fillings, lane.Filling{FillRequest: r})
				storing = append(storing, f)
			}
		}
	}
	if len(fillings) == 0 {
		return
	}
	if behind {
		fl.earlyMany(storing, fillings)
	}
	fl.node.scripts.FillMany(ctx, fillings)
	for i, f := range storing {
		f.stored = &fillings[i]
		if f.stored.Err == nil && f.stored.Status == lane.FillOK {
			f.lane.filled()
		}
	}
}

// encode returns a value's shared form; nothing at all for an absent record.
func (fl *filler[V]) encode(l Loaded[V]) ([]byte, error) {
	if !l.Found {
		return nil, nil
	}
	data, err := fl.cfg.Codec.Encode(l.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEncode, err)
	}
	if data = mark(fl.mark, data); len(data) == 0 {
		return nil, fmt.Errorf("%w: it encodes to nothing, which means absent", errEncode)
	}
	return data, nil
}

func (fl *filler[V]) decode(r lane.GetReply) (Loaded[V], error) {
	l := Loaded[V]{Version: r.Version, Tags: r.Tags, Found: len(r.Value) > 0}
	if !l.Found {
		return l, nil
	}
	data, ok := unmark(fl.mark, r.Value)
	if !ok {
		return Loaded[V]{}, errOtherForm
	}
	var err error
	if l.Value, err = fl.cfg.Codec.Decode(data); err != nil {
		return Loaded[V]{}, fmt.Errorf("decode shared value: %w", err)
	}
	return l, nil
}
