package invalidation

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// presence tells of the node and answers questions until the node is closed.
func (n *Node) presence() {
	k := presenceOf(n.cfg.Namespace)
	n.forgetGone(k)
	for n.ctx.Err() == nil {
		n.answerQuestions(k)
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
func (n *Node) answerQuestions(k presenceKeys) {
	ps := n.control.Subscribe(n.ctx, k.ask)
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
			n.announce(k)
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
			n.answer(m.Payload)
		}
	}
}

// announce writes the node's state. An error is among the reasons of NotReady.
func (n *Node) announce(k presenceKeys) {
	host, _ := os.Hostname()
	st := NodeState{
		NodeStats: n.Stats(), Host: host, PID: os.Getpid(), Began: n.began.UTC(), Address: n.cfg.Address, Written: time.Now().UTC(),
		NotReady: n.NotReady(),
	}
	for _, c := range *n.caches.Load() {
		st.Caches = append(st.Caches, c.Stats())
	}
	text, err := json.Marshal(st)
	if err != nil {
		return
	}
	pipe := n.control.Pipeline()
	pipe.Set(n.ctx, k.node+n.cfg.ID, text, PresenceTTL)
	pipe.SAdd(n.ctx, k.ids, n.cfg.ID)
	_, err = pipe.Exec(n.ctx)
	n.unlist(err)
	n.stray(st.Lanes)
}

// stray notes that the node misses a lane, or does not any more: it may be in another namespace than it was meant to be, where
// no process looks for it. A user without that key only hides it.
func (n *Node) stray(lanes []LaneStats) {
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
func (n *Node) unlist(err error) {
	if err == nil {
		n.unlisted.Store(nil)
		return
	}
	text := err.Error() + fixOf(err)
	n.unlisted.Store(&text)
}

// forgetGone removes ids whose nodes have said nothing for long, so that the set does not grow with each restart.
func (n *Node) forgetGone(k presenceKeys) {
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

// answer does what a question asks. What is no question is passed over.
func (n *Node) answer(payload string) {
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
	_, _ = pipe.Exec(n.ctx) // whoever asked stops waiting
}

// flushLocal makes every local entry void; shared entries stay.
func (n *Node) flushLocal() {
	for _, f := range n.lanes {
		f.view.forgetLocal()
	}
}
