package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// PlantStale puts an old copy of a record into Redis, as a program that bypasses Freshet would, so that people can find it with the console
// and repair it. It is a record that the shop's readers never read, since what they read is judged. It waits until the record is in the replica.
func (s *Shop) PlantStale(ctx context.Context) error {
	if !s.isRunning() {
		return ErrNotRunning
	}
	k := s.traffic.kinds[len(s.traffic.kinds)-1]
	key, err := k.dataset.FormatKey(k.make.key(s.cfg.Records)...)
	if err != nil {
		return fmt.Errorf("plant a stale copy: %w", err)
	}
	name, err := k.dataset.CacheKey(key)
	if err != nil {
		return fmt.Errorf("plant a stale copy: %w", err)
	}
	version := time.Now().UnixMicro()
	data, err := json.Marshal(k.make.data(rand.New(rand.NewPCG(s.cfg.Seed, 3)), s.cfg.Records, version))
	if err != nil {
		return fmt.Errorf("plant a stale copy: %w", err)
	}
	ev := schemas.Event{Dataset: k.dataset.Name, Key: key, Op: schemas.Upsert, Version: version, Data: data}
	sent := make(chan error, 1)
	if err := s.cfg.Publisher.PublishAsync(ctx, ev, func(_ schemas.Token, err error) { sent <- err }); err != nil {
		return fmt.Errorf("plant a stale copy: %w", err)
	}
	select {
	case err = <-sent:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		err = s.awaitRow(ctx, k.dataset, key, version)
	}
	if err == nil {
		err = s.plant(ctx, name, 1, `{"version":1}`)
	}
	if err != nil {
		return fmt.Errorf("plant a stale copy: %w", err)
	}
	s.tell("an old copy of %s %s is in Redis; the console's Consistency lists it soon", k.dataset.Name, key)
	return nil
}

// awaitRow waits until the replica has a record in at least a version.
func (s *Shop) awaitRow(ctx context.Context, d *schemas.Dataset, key string, version int64) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		row, err := s.cfg.Rows.Get(ctx, d, key)
		if err != nil {
			return err
		}
		if row.Found && row.Version >= version {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// plant writes a shared entry that readers take.
func (s *Shop) plant(ctx context.Context, name string, version int64, data string) error {
	rdb := redis.NewClient(s.cfg.Redis)
	defer func() { _ = rdb.Close() }()
	k := lane.KeysOf(s.cfg.Namespace, lane.Of(name, 1))
	meta, err := rdb.HMGet(ctx, k.Meta, "root", "seq").Result()
	if err != nil {
		return fmt.Errorf("read lane: %w", err)
	}
	entry := fmt.Sprintf("V %d %s %s 99999999999999 0\n%s", version, meta[0], meta[1], data)
	return rdb.Set(ctx, k.Value(name), entry, time.Hour).Err()
}
