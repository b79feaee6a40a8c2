package invalidation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation/lane"
)

// Presence: every node writes what it knows of itself under a key that lives PresenceTTL, and answers what it is asked
// over a channel. Whoever operates Freshet sees all nodes of a namespace this way; nothing that nodes serve depends on it.
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
	// Written is when it said so, by its own clock.
	Written time.Time
}

// Nodes gives the nodes of a namespace that were alive within PresenceTTL, by id.
func Nodes(ctx context.Context, rdb redis.UniversalClient, namespace string) ([]NodeState, error) {
	k := presenceOf(namespace)
	ids, err := rdb.SMembers(ctx, k.ids).Result()
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	slices.Sort(ids)
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = k.node + id
	}
	values, err := rdb.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	var out []NodeState
	for _, v := range values {
		text, ok := v.(string)
		var st NodeState
		if ok && json.Unmarshal([]byte(text), &st) == nil {
			out = append(out, st)
		}
	}
	return out, nil
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
