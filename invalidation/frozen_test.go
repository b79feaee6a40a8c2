package invalidation_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// nodeVar makes this test binary a node; its value is a nodeConfig as JSON.
const nodeVar = "FRESHET_TEST_NODE"

// nodeConfig states what a node in a process of its own follows and reads.
type nodeConfig struct {
	Redis, Namespace   string
	Keys               []string
	Poll, MaxStaleness time.Duration
}

// report is one line from a node: a read, or what it knows of its lane.
type report struct {
	Key, Value string
	Began      time.Time
	Hit        bool `json:",omitempty"` // it was held before

	Flushes map[string]int64 `json:",omitempty"`
	Fresh   bool             `json:",omitempty"`
}

// frozenRows is the hash in Redis that stands for the primary of a node process.
func frozenRows(ns string) string { return ns + "-rows" }

// nodeChild is the other side: it reads all the time and reports on descriptor 3, until it is killed.
func nodeChild() (code int, child bool) {
	text := os.Getenv(nodeVar)
	if text == "" {
		return 0, false
	}
	var c nodeConfig
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.read(json.NewEncoder(os.NewFile(3, "parent")))
	}
	fmt.Fprintln(os.Stderr, "node child:", err)
	return 1, true
}

func (c nodeConfig) read(parent *json.Encoder) error {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: c.Redis})
	datasets, err := loadUserDatasets()
	if err != nil {
		return err
	}
	n, err := invalidation.Join(ctx, rdb, invalidation.Config{Namespace: c.Namespace, Datasets: datasets, PollInterval: c.Poll, MaxStaleness: c.MaxStaleness})
	if err != nil {
		return err
	}
	load := func(ctx context.Context, key string, _ invalidation.Source) (l invalidation.Loaded[string], err error) {
		l.Value, err = rdb.HGet(ctx, frozenRows(c.Namespace), key).Result()
		_, version, _ := strings.Cut(l.Value, "@")
		l.Version, _ = strconv.ParseInt(version, 10, 64)
		l.Found, l.From = err == nil, invalidation.Primary
		return l, err
	}
	users, err := invalidation.NewCache(n, invalidation.CacheConfig[string]{Dataset: "users", Load: load})
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	for i := 0; ; i++ {
		r := report{Key: c.Keys[i%len(c.Keys)]}
		_, r.Hit = users.Peek(r.Key)
		r.Began = time.Now()
		if r.Value, err = users.Get(ctx, r.Key); err != nil {
			continue // Redis, which is the primary too, is busy
		}
		if i%20 == 0 {
			r.Flushes, r.Fresh = flushes(n, 0), n.Stats().Lanes[0].Fresh
		}
		if err := parent.Encode(r); err != nil {
			return err
		}
		<-tick.C
	}
}

// startNode starts this executable as a node; got is called with each report until it ends.
func (r *rig) startNode(c nodeConfig, got func(report)) *testenv.Process {
	r.t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		r.t.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	r.t.Cleanup(wg.Wait) // runs after the process was killed
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeVar+"="+string(text))
	cmd.ExtraFiles = []*os.File{out}
	p := testenv.StartProcess(r.t, "node", cmd)
	check(r.t, out.Close())
	wg.Go(func() {
		defer in.Close()
		for d := json.NewDecoder(bufio.NewReader(in)); ; {
			var one report
			if err := d.Decode(&one); err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					r.t.Errorf("read report: %v", err)
				}
				return
			}
			got(one)
		}
	})
	return p
}

// A node's process is stopped while everything that it holds changes and the lane is trimmed behind it. Not one read
// that begins after it continues is older than the bound. It forgets what it cannot prove, once: where the kernel kept all
// messages for it, nothing is unproved.
func TestNodeProcessStandsStill(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		lost bool               // with its subscription
		want []map[string]int64 // any of them
	}{
		// The timer of the next look at the lane has ended too; on a busy machine that look may come before the messages.
		{"messages wait in the socket", false, []map[string]int64{{"start": 1}, {"start": 1, "trimmed": 1}}},
		{"messages are lost", true, []map[string]int64{{"start": 1, "trimmed": 1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			standStill(t, tc.lost, tc.want)
		})
	}
}

func standStill(t *testing.T, lost bool, want []map[string]int64) {
	t.Helper()
	cfg := nodeConfig{Keys: []string{"1", "2", "3", "4"}, Poll: 200 * time.Millisecond, MaxStaleness: time.Second}
	still := 3 * time.Second
	if os.Getenv("FRESHET_FAULTS") == "full" {
		cfg.Poll, cfg.MaxStaleness, still = invalidation.DefaultPollInterval, invalidation.DefaultMaxStaleness, 30*time.Second
	}
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRig(t, server)
	r.setRoot(nil)
	cfg.Redis, cfg.Namespace = server.Addr, r.ns
	pr := newProof(cfg.MaxStaleness)
	write := func() {
		for _, k := range cfg.Keys {
			v := r.db.change(k, false)
			check(t, r.rdb.HSet(t.Context(), frozenRows(r.ns), k, v.value).Err())
			r.emit([]lane.Item{{Key: "user:" + k, Version: v.version}})
			pr.say(k)
		}
	}
	write()

	var held atomic.Int64
	var counts atomic.Pointer[map[string]int64]
	node := r.startNode(cfg, func(one report) {
		pr.judge(one.Key, one.Value, one.Began)
		if one.Hit {
			held.Add(1)
		}
		if one.Fresh {
			counts.Store(&one.Flushes)
		}
	})
	holds := func() bool { return held.Load() >= 100 }
	eventually(t, "entries held", holds)
	node.Stop(t)
	if lost {
		check(t, r.rdb.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err())
	}
	over := time.NewTimer(still)
	defer over.Stop()
	pace := time.NewTicker(still / 10)
	defer pace.Stop()
	for stopped := true; stopped; {
		select {
		case <-pace.C:
			write()
		case <-over.C:
			stopped = false
		}
	}
	check(t, r.rdb.XTrimMaxLen(t.Context(), lane.KeysOf(r.ns, 0).Stream, 1).Err())
	held.Store(0)
	node.Cont(t)
	eventually(t, "entries held again", holds)
	testenv.Eventually(t, patience, func(context.Context) error {
		for _, counted := range want {
			if cmp.Equal(counted, *counts.Load()) {
				return nil
			}
		}
		return fmt.Errorf("flushes %v, want one of %v", *counts.Load(), want)
	})
	node.Kill(t)
	pr.holds(t)
}
