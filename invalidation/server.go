package invalidation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrUnfit comes, wrapped, when a Redis cannot carry lanes as it is set up: trying again does not help until its operator
// changes that.
var ErrUnfit = errors.New("this Redis cannot carry lanes")

// ErrOtherSettings is the ErrUnfit of a namespace that was made with another number of lanes, or for other loads.
var ErrOtherSettings = fmt.Errorf("%w with these settings", ErrUnfit)

// fitness looks at the settings of every master behind rdb. Errors that wrap ErrUnfit last until an operator acts, all others may pass.
func fitness(ctx context.Context, rdb redis.UniversalClient, sharded bool, log *slog.Logger) error {
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			return masterFitness(ctx, c, sharded, log.With("server", c.Options().Addr))
		})
	}
	return masterFitness(ctx, rdb, sharded, log)
}

func masterFitness(ctx context.Context, c redis.Cmdable, sharded bool, log *slog.Logger) error {
	info := map[string]string{}
	for _, section := range []string{"server", "memory", "replication", "persistence"} { // one by one: several at once need Redis 7
		text, err := c.Info(ctx, section).Result()
		if redis.IsPermissionError(err) {
			return fmt.Errorf("read INFO %s of Redis: %w: %w: %s", section, err, ErrUnfit, fixACL)
		}
		if err != nil {
			return fmt.Errorf("read INFO %s of Redis: %w", section, err)
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				info[name] = value
			}
		}
	}
	if err := checkRelease(info["redis_version"], sharded); err != nil {
		return err
	}
	if err := checkEviction(info["maxmemory_policy"], log); err != nil {
		return err
	}
	if info["aof_enabled"] == "0" {
		log.Info("Redis keeps no append-only file: nothing is lost by that, but after each restart the lanes are emitted again; appendonly yes with appendfsync everysec shortens it")
	}
	if info["role"] == "slave" {
		return errors.New("read INFO replication of Redis: it is a replica, lanes need the master")
	}
	// The count of good replicas is shown only where min-replicas-to-write is set.
	if _, guarded := info["min_slaves_good_slaves"]; !guarded && info["connected_slaves"] != "0" && info["connected_slaves"] != "" {
		log.Warn("Redis takes writes that no replica has: set min-replicas-to-write 1 and min-replicas-max-lag 10")
	}
	return nil
}

// fixACL is what a Redis user must be allowed.
const fixACL = "let the Redis user do this: ACL SETUSER <user> ~{fr:* &{fr:* -@all +@read +@write +@connection +eval +evalsha +script|load +publish +subscribe" +
	" +time -@dangerous -@admin +info; with Redis Cluster (7 and newer) also: +spublish +ssubscribe +cluster|slots +cluster|shards"

// permitted tries every command that the lanes' scripts and the nodes use, under names of the namespace that nothing reads.
func permitted(ctx context.Context, rdb redis.UniversalClient, namespace string) error {
	const ttl = time.Second
	key := "{fr:" + namespace + ":probe}:"
	hash, stream, text, set, list := key+"hash", key+"stream", key+"text", key+"set", key+"list"
	pipe := rdb.Pipeline()
	pipe.HSet(ctx, hash, "a", 1)
	pipe.HIncrBy(ctx, hash, "a", 1)
	pipe.HGet(ctx, hash, "a")
	pipe.HMGet(ctx, hash, "a", "b")
	pipe.HLen(ctx, hash)
	pipe.HDel(ctx, hash, "a")
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, MaxLen: 1, Values: []string{"a", "1"}})
	pipe.XRangeN(ctx, stream, "-", "+", 1)
	pipe.Set(ctx, text, "", ttl)
	pipe.Get(ctx, text)
	pipe.MGet(ctx, text)
	pipe.GetRange(ctx, text, 0, 1)
	pipe.PTTL(ctx, text)
	pipe.Exists(ctx, text)
	pipe.SAdd(ctx, set, "a")
	pipe.SMembers(ctx, set)
	pipe.SRem(ctx, set, "a")
	pipe.RPush(ctx, list, "a")
	pipe.PExpire(ctx, list, ttl)
	pipe.Time(ctx)
	pipe.Publish(ctx, key+"ch", "")
	pipe.Del(ctx, text)
	pipe.Unlink(ctx, hash, stream, text, set, list)
	pipe.Eval(ctx, "return 1", []string{text})
	cmds, err := pipe.Exec(ctx)
	var refused []string
	for _, c := range cmds {
		if redis.IsPermissionError(c.Err()) {
			refused = append(refused, strings.ToUpper(c.Name()))
		}
	}
	switch {
	case len(refused) > 0:
		return fmt.Errorf("redis refuses %s: %w: %s", strings.Join(refused, ", "), ErrUnfit, fixACL)
	case err != nil && !errors.Is(err, redis.Nil):
		return fmt.Errorf("try the commands of the lanes: %w", err)
	}
	return nil
}

func checkRelease(version string, sharded bool) error {
	need := [2]int{6, 2}
	why := ""
	if sharded {
		need, why = [2]int{7, 0}, " for sharded publishing"
	}
	major, minor, err := release(version)
	if err != nil {
		return fmt.Errorf("read the version of Redis %q: %w", version, err)
	}
	if major < need[0] || major == need[0] && minor < need[1] {
		return fmt.Errorf("redis %s: %w: use %d.%d or newer%s", version, ErrUnfit, need[0], need[1], why)
	}
	return nil
}

func release(version string) (major, minor int, err error) {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	if major, err = strconv.Atoi(a); err != nil {
		return 0, 0, fmt.Errorf("major release: %w", err)
	}
	if minor, err = strconv.Atoi(b); err != nil {
		return 0, 0, fmt.Errorf("minor release: %w", err)
	}
	return major, minor, nil
}

func checkEviction(policy string, log *slog.Logger) error {
	switch {
	case policy == "noeviction":
		return nil
	case strings.HasPrefix(policy, "allkeys-"):
		return fmt.Errorf("maxmemory-policy %s may evict the lanes themselves: %w: set maxmemory-policy noeviction, or use a Redis of its own", policy, ErrUnfit)
	case strings.HasPrefix(policy, "volatile-"):
		log.Warn("Redis may evict shared entries before their time: harmless, but noeviction is better", "maxmemory_policy", policy)
		return nil
	}
	return fmt.Errorf("read maxmemory_policy of Redis: %q is unknown", policy)
}
