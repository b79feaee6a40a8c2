package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterMasters = 3
	clusterSlots   = 16384
	clusterTimeout = "2000" // ms without an answer until a node counts as failing
)

// RedisCluster is a Redis Cluster of three masters with a replica each, for one test alone. Its servers can be killed,
// stopped and restarted one by one.
type RedisCluster struct {
	// Nodes are the masters, as it began, then their replicas in the same order.
	Nodes []*RedisServer
}

// StartRedisCluster starts one and waits until it serves every slot and all replicas are in sync.
func StartRedisCluster(t testing.TB, o RedisOptions) *RedisCluster {
	t.Helper()
	c := &RedisCluster{}
	var ports []string
	for range 2 * clusterMasters {
		bus, err := freePort(t.Context())
		give(t, "Redis Cluster", err)
		ports = append(ports, strconv.Itoa(bus))
		own := o
		own.Args = append([]string{
			"--cluster-enabled", "yes", "--cluster-port", ports[len(ports)-1], "--cluster-node-timeout", clusterTimeout,
			"--cluster-require-full-coverage", "no",
		}, o.Args...)
		c.Nodes = append(c.Nodes, StartRedis(t, own))
	}
	if err := c.form(t.Context(), ports); err != nil {
		t.Fatalf("testenv: form Redis Cluster: %v", err)
	}
	Eventually(t, bootLimit, c.whole)
	return c
}

// form introduces the nodes to each other and deals out slots.
func (c *RedisCluster) form(ctx context.Context, bus []string) error {
	var ids []string
	for i, n := range c.Nodes {
		rdb := n.client()
		defer rdb.Close()
		id, err := rdb.Do(ctx, "CLUSTER", "MYID").Text()
		if err != nil {
			return fmt.Errorf("ask node %d for its id: %w", i, err)
		}
		ids = append(ids, id)
		for j, other := range c.Nodes[:i] {
			host, port, err := net.SplitHostPort(other.Addr)
			if err != nil {
				return fmt.Errorf("split address: %w", err)
			}
			if err := rdb.Do(ctx, "CLUSTER", "MEET", host, port, bus[j]).Err(); err != nil {
				return fmt.Errorf("introduce node %d: %w", i, err)
			}
		}
		if i < clusterMasters {
			from, to := i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters-1
			if err := rdb.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", from, to).Err(); err != nil {
				return fmt.Errorf("give slots to node %d: %w", i, err)
			}
			continue
		}
		if err := follow(ctx, rdb, ids[i-clusterMasters]); err != nil {
			return fmt.Errorf("make node %d a replica: %w", i, err)
		}
	}
	return nil
}

// follow waits until the node has learned of its master.
func follow(ctx context.Context, rdb *redis.Client, master string) error {
	return until(ctx, func(ctx context.Context) error { return rdb.Do(ctx, "CLUSTER", "REPLICATE", master).Err() })
}

// whole reports what the cluster still lacks.
func (c *RedisCluster) whole(ctx context.Context) error {
	for i, n := range c.Nodes {
		rdb := n.client()
		defer rdb.Close()
		info, err := rdb.ClusterInfo(ctx).Result()
		if err != nil {
			return fmt.Errorf("ask node %d: %w", i, err)
		}
		if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d", clusterSlots)) {
			return fmt.Errorf("node %d does not see every slot served", i)
		}
		repl, err := rdb.Info(ctx, "replication").Result()
		if err != nil {
			return fmt.Errorf("ask node %d: %w", i, err)
		}
		master := strings.Contains(repl, "role:master") && strings.Contains(repl, "connected_slaves:1")
		replica := strings.Contains(repl, "role:slave") && strings.Contains(repl, "master_link_status:up")
		if i < clusterMasters && !master || i >= clusterMasters && !replica {
			return fmt.Errorf("node %d is not what it should be yet", i)
		}
	}
	return nil
}

// Addrs are the addresses of all nodes.
func (c *RedisCluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// Client returns a cluster client that is closed when the test ends.
func (c *RedisCluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), ClusterStateReloadInterval: time.Second})
	t.Cleanup(func() {
		if err := rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			t.Errorf("testenv: close cluster client: %v", err)
		}
	})
	return rdb
}

// Owner returns the index of the node that is the master of a key's slot just now, as the node asked sees it.
func (c *RedisCluster) Owner(ctx context.Context, asked int, key string) (int, error) {
	rdb := c.Nodes[asked].client()
	defer rdb.Close()
	slot, err := rdb.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return 0, fmt.Errorf("ask for slot: %w", err)
	}
	shards, err := rdb.ClusterShards(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("ask for shards: %w", err)
	}
	for _, sh := range shards {
		if !slices.ContainsFunc(sh.Slots, func(r redis.SlotRange) bool { return r.Start <= slot && slot <= r.End }) {
			continue
		}
		for _, master := range sh.Nodes {
			addr := net.JoinHostPort(master.IP, strconv.FormatInt(master.Port, 10))
			i := slices.IndexFunc(c.Nodes, func(n *RedisServer) bool { return n.Addr == addr })
			if master.Role == "master" && i >= 0 {
				return i, nil
			}
		}
	}
	return 0, errors.New("no node serves the slot")
}

// Replica is the index of the node that began as the other one of a pair.
func (c *RedisCluster) Replica(node int) int { return (node + clusterMasters) % (2 * clusterMasters) }

// Takeover makes a replica the master of its slots without asking anybody, although it may lack the newest writes.
func (c *RedisCluster) Takeover(ctx context.Context, node int) error {
	rdb := c.Nodes[node].client()
	defer rdb.Close()
	if err := rdb.Do(ctx, "CLUSTER", "FAILOVER", "TAKEOVER").Err(); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	return nil
}

// Move moves the slot of a key to another master as resharding does, step keys at a time: meanwhile the slot's keys are on
// both, and commands are redirected or told to try again. between is called after each step.
func (c *RedisCluster) Move(ctx context.Context, key string, from, to, step int, between func()) error {
	src, dst := c.Nodes[from].client(), c.Nodes[to].client()
	defer src.Close()
	defer dst.Close()
	slot, err := src.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return fmt.Errorf("ask for slot: %w", err)
	}
	var ids [2]string
	for i, rdb := range []*redis.Client{src, dst} {
		if ids[i], err = rdb.Do(ctx, "CLUSTER", "MYID").Text(); err != nil {
			return fmt.Errorf("ask for id: %w", err)
		}
	}
	if err := dst.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0]).Err(); err != nil {
		return fmt.Errorf("begin import: %w", err)
	}
	if err := src.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1]).Err(); err != nil {
		return fmt.Errorf("begin migration: %w", err)
	}
	host, port, err := net.SplitHostPort(c.Nodes[to].Addr)
	if err != nil {
		return fmt.Errorf("split address: %w", err)
	}
	for {
		keys, err := src.ClusterGetKeysInSlot(ctx, int(slot), step).Result()
		if err != nil {
			return fmt.Errorf("list keys of slot: %w", err)
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		if err := src.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("migrate keys: %w", err)
		}
		between()
	}
	for _, rdb := range []*redis.Client{dst, src} {
		if err := rdb.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", ids[1]).Err(); err != nil {
			return fmt.Errorf("give slot away: %w", err)
		}
	}
	return nil
}
