package invalidation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation/lane"
)

// Presence: every node writes what it knows of itself under a key that lives PresenceTTL, and answers what it is asked
// over a channel. An operator sees all nodes of a namespace this way; nothing that nodes serve depends on it.
const (
	// PresenceInterval is how often a node writes its state.
	PresenceInterval = 3 * time.Second
	// PresenceTTL is how long a node that says nothing counts as alive.
	PresenceTTL = 10 * time.Second
	answerTTL   = 10 * time.Second
	strays      = "{fr:}:strays"
	maxStrays   = 1000
	// maxAsked bounds the names of one Question.
	maxAsked = 100
)

// presenceKeys are the names in Redis; the braces put them all into one hash slot.
//
//	{fr:<ns>:nodes}:ids      set of ids, also of some that are gone
//	{fr:<ns>:nodes}:n:<id>   NodeState as JSON, with PresenceTTL
//	{fr:<ns>:nodes}:ask      channel of questions
//	{fr:<ns>:nodes}:r:<q>    list of the answers to a question
//	{fr:}:strays             "<ns> <id>" of nodes that miss a lane, by the time of their clocks; the newest maxStrays
type presenceKeys struct{ ids, node, ask, reply string }

func presenceOf(ns string) presenceKeys {
	p := "{fr:" + ns + ":nodes}:"
	return presenceKeys{ids: p + "ids", node: p + "n:", ask: p + "ask", reply: p + "r:"}
}

// NodeState is what a node says of itself.
type NodeState struct {
	NodeStats
	// Host and PID say where it runs, Began when it joined.
	Host  string
	PID   int
	Began time.Time
	// Address is Config.Address.
	Address string
	// NotReady are the reasons of Node.NotReady.
	NotReady []string `json:",omitempty"`
	// Caches are its caches.
	Caches []CacheStats
	// Version is that of this module in the program, "" where the build does not state it.
	Version string `json:",omitempty"`
	// Written is when it said so, by its own clock.
	Written time.Time
	// Silence is how long ago it said so, by the clock of Redis; set when it is read.
	Silence time.Duration `json:"-"`
}

// Nodes returns the nodes of a namespace that were alive within PresenceTTL, by id.
func Nodes(ctx context.Context, rdb redis.UniversalClient, namespace string) ([]NodeState, error) {
	alive, _, err := Roll(ctx, rdb, namespace)
	return alive, err
}

// Roll is Nodes, and the ids of the nodes that have said nothing for longer and did not say that they end either: suspended, killed, or
// cut from Redis. The latter are forgotten when another node joins.
func Roll(ctx context.Context, rdb redis.UniversalClient, namespace string) (alive []NodeState, silent []string, err error) {
	k := presenceOf(namespace)
	ids, err := rdb.SMembers(ctx, k.ids).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("read nodes: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil, nil
	}
	slices.Sort(ids)
	keys := make([]string, len(ids))
	left := make([]*redis.DurationCmd, len(ids))
	pipe := rdb.Pipeline()
	for i, id := range ids {
		keys[i] = k.node + id
		left[i] = pipe.PTTL(ctx, keys[i])
	}
	values := pipe.MGet(ctx, keys...)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, nil, fmt.Errorf("read nodes: %w", err)
	}
	for i, v := range values.Val() {
		text, ok := v.(string)
		if !ok {
			silent = append(silent, ids[i])
			continue
		}
		var st NodeState
		if json.Unmarshal([]byte(text), &st) == nil {
			st.Silence = max(0, PresenceTTL-max(0, left[i].Val()))
			alive = append(alive, st)
		}
	}
	return alive, silent, nil
}

// Strays returns the nodes that are alive in other namespaces and miss a lane there: perhaps they were meant to be in this one.
func Strays(ctx context.Context, rdb redis.UniversalClient, namespace string) ([]NodeState, error) {
	members, err := rdb.ZRange(ctx, strays, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read strays: %w", err)
	}
	pipe := rdb.Pipeline()
	for _, m := range members {
		if ns, id, _ := strings.Cut(m, " "); ns != namespace {
			pipe.Get(ctx, presenceOf(ns).node+id)
		}
	}
	if pipe.Len() == 0 {
		return nil, nil
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read strays: %w", err)
	}
	var out []NodeState
	for _, c := range cmds {
		var st NodeState
		if get, ok := c.(*redis.StringCmd); ok && get.Err() == nil && json.Unmarshal([]byte(get.Val()), &st) == nil {
			out = append(out, st)
		}
	}
	return out, nil
}

// Question is what nodes are asked.
type Question struct {
	// Node is the id of the node that is meant; "" means all.
	Node string `json:"node,omitempty"`
	// Names are cache keys whose local entries are wanted; at most 100.
	Names []string `json:"names,omitempty"`
	// Flush makes the node forget every local entry.
	Flush bool `json:"flush,omitempty"`

	// Reply is the list that takes the answers; set by Ask.
	Reply string `json:"reply"`
}

// Answer is what a node says to a Question.
type Answer struct {
	Node string `json:"node"`
	// Held are the local entries of the names that were asked for, those that the node has.
	Held []Held `json:"held,omitempty"`
	// Flushed: the node has forgotten every local entry.
	Flushed bool `json:"flushed,omitempty"`
}

// Held is a local entry without its value.
type Held struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	// Found is false for an entry that says "there is no such record".
	Found bool `json:"found"`
	// Served: the node would answer a read from it now. Otherwise it only lies there until it is evicted.
	Served bool `json:"served"`
}

// Ask puts a question to the nodes of a namespace and waits until want of them answered or wait is over.
func Ask(ctx context.Context, rdb redis.UniversalClient, namespace string, q Question, want int, wait time.Duration) ([]Answer, error) {
	if err := lane.CheckNamespace(namespace); err != nil {
		return nil, fmt.Errorf("ask nodes: %w", err)
	}
	if len(q.Names) > maxAsked {
		return nil, fmt.Errorf("ask nodes: %d names are too many; at most %d", len(q.Names), maxAsked)
	}
	k := presenceOf(namespace)
	q.Reply = k.reply + rand.Text()
	text, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask nodes: %w", err)
	}
	heard, err := rdb.Publish(ctx, k.ask, text).Result()
	if err != nil {
		return nil, fmt.Errorf("ask nodes: %w", err)
	}
	if q.Node == "" {
		want = max(want, int(heard)) // in a cluster only the subscribers of one master are counted
	} else {
		want = 1
	}
	var out []Answer
	for end := time.Now().Add(wait); len(out) < want; {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		got, err := rdb.BLPop(ctx, max(left, time.Second), q.Reply).Result() // the client rounds less up by itself, and says so
		if errors.Is(err, redis.Nil) {
			break
		}
		if err != nil {
			return out, fmt.Errorf("hear nodes: %w", err)
		}
		var a Answer
		if len(got) == 2 && json.Unmarshal([]byte(got[1]), &a) == nil {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b Answer) int { return strings.Compare(a.Node, b.Node) })
	return out, nil
}

// presence shows one node to Nodes, and answers Ask in its name.
type presence struct {
	n       *Node
	keys    presenceKeys
	version string
}

// run announces the node and answers questions until the node is closed.
func (p *presence) run() {
	n, k := p.n, p.keys
	p.forgetGone()
	for n.ctx.Err() == nil {
		p.answerQuestions()
		t := time.NewTimer(maxBackoff)
		select {
		case <-n.ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.ctx), controlTimeout)
	defer cancel()
	pipe := n.control.Pipeline()
	pipe.Del(ctx, k.node+n.cfg.ID)
	pipe.SRem(ctx, k.ids, n.cfg.ID)
	pipe.ZRem(ctx, strays, n.cfg.Namespace+" "+n.cfg.ID)
	_, _ = pipe.Exec(ctx) // else the key's time runs out
}

// answerQuestions works until the link fails.
func (p *presence) answerQuestions() {
	n := p.n
	ps := n.control.Subscribe(n.ctx, p.keys.ask)
	stop := context.AfterFunc(n.ctx, func() { _ = ps.Close() }) // a blocked receive does not heed its context
	defer func() {
		if stop() {
			_ = ps.Close() // an error would say that it is closed
		}
	}()
	var told time.Time
	for n.ctx.Err() == nil {
		if time.Since(told) >= PresenceInterval {
			told = time.Now()
			p.announce()
			if ps.Ping(n.ctx) != nil {
				return
			}
		}
		m, err := ps.ReceiveTimeout(n.ctx, receiveTimeout)
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			return
		}
		if m, ok := m.(*redis.Message); ok {
			p.answer(m.Payload)
		}
	}
}

// announce writes the node's state. An error is among the reasons of NotReady.
func (p *presence) announce() {
	n, k := p.n, p.keys
	host, _ := os.Hostname()
	st := NodeState{
		NodeStats: n.Stats(), Host: host, PID: os.Getpid(), Began: n.began.UTC(), Address: n.cfg.Address, Written: time.Now().UTC(),
		NotReady: n.NotReady(), Caches: n.Caches(), Version: p.version,
	}
	text, err := json.Marshal(st)
	if err != nil {
		return
	}
	pipe := n.control.Pipeline()
	pipe.Set(n.ctx, k.node+n.cfg.ID, text, PresenceTTL)
	pipe.SAdd(n.ctx, k.ids, n.cfg.ID)
	_, err = pipe.Exec(n.ctx)
	p.unlist(err)
	p.stray(st.Lanes)
}

// stray notes that the node misses a lane, or does not any more: it may be in another namespace than it was meant to be, where
// no process looks for it. A user without that key only hides it.
func (p *presence) stray(lanes []LaneStats) {
	n := p.n
	pipe := n.control.Pipeline()
	member := n.cfg.Namespace + " " + n.cfg.ID
	if slices.ContainsFunc(lanes, func(l LaneStats) bool { return !l.Exists }) {
		pipe.ZAdd(n.ctx, strays, redis.Z{Score: float64(time.Now().UnixMilli()), Member: member})
		pipe.ZRemRangeByRank(n.ctx, strays, 0, -maxStrays-1)
		pipe.PExpire(n.ctx, strays, time.Hour)
	} else {
		pipe.ZRem(n.ctx, strays, member)
	}
	_, _ = pipe.Exec(n.ctx)
}

// unlist notes why Nodes does not show the node; nil: it does.
func (p *presence) unlist(err error) {
	if err == nil {
		p.n.unlisted.Store(nil)
		return
	}
	text := err.Error() + fixOf(err)
	p.n.unlisted.Store(&text)
}

// forgetGone removes ids whose nodes have been silent for long, so that the set does not grow with each restart.
func (p *presence) forgetGone() {
	n, k := p.n, p.keys
	ids, err := n.control.SMembers(n.ctx, k.ids).Result()
	if err != nil || len(ids) == 0 {
		return
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = k.node + id
	}
	states, err := n.control.MGet(n.ctx, keys...).Result()
	if err != nil {
		return
	}
	var gone []any
	for i, st := range states {
		if st == nil && ids[i] != n.cfg.ID {
			gone = append(gone, ids[i])
		}
	}
	if len(gone) > 0 {
		_ = n.control.SRem(n.ctx, k.ids, gone...).Err() // the next node that joins tries again
	}
}

// answer does what a question asks. What is not a question is passed over.
func (p *presence) answer(payload string) {
	n := p.n
	var q Question
	if json.Unmarshal([]byte(payload), &q) != nil || q.Reply == "" || q.Node != "" && q.Node != n.cfg.ID {
		return
	}
	a := Answer{Node: n.cfg.ID}
	if q.Flush {
		n.flushLocal()
		a.Flushed = true
		n.log.Info("every local entry was forgotten, as asked")
	}
	for _, name := range q.Names[:min(len(q.Names), maxAsked)] {
		for _, c := range *n.caches.Load() {
			if h, ok := c.held(name); ok {
				a.Held = append(a.Held, h)
			}
		}
	}
	text, err := json.Marshal(a)
	if err != nil {
		return
	}
	pipe := n.control.Pipeline()
	pipe.RPush(n.ctx, q.Reply, text)
	pipe.PExpire(n.ctx, q.Reply, answerTTL)
	_, _ = pipe.Exec(n.ctx) // else the asking process stops waiting
}

// flushLocal makes every local entry void; shared entries stay.
func (n *Node) flushLocal() {
	for _, f := range n.lanes {
		f.view.forgetLocal()
	}
}
