package invalidation

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation/lane"
)

const (
	// warnInterval is how often one reason not to cache is logged while it lasts, or comes and goes.
	warnInterval = 10 * time.Minute
	// warnAfter is how many looks in a row must find a reason before it is logged: many last for a moment only.
	warnAfter = 5
	// maxNamedLanes bounds the lanes that one reason lists.
	maxNamedLanes = 4
)

// Kinds of reasons of lanes.
const (
	unseenLane      = "unseen"
	refusedLane     = "refused"
	deniedLane      = "denied"
	unsubscribed    = "subscribe"
	unreadLane      = "sync"
	missingLane     = "missing"
	unconfirmedLane = "unconfirmed"
	unsharedLane    = "share"
)

// reason is why something is not cached. Its kind stays the same while its text may change, by an error's port for instance.
type reason struct{ kind, text string }

// NotReady returns why the node, a dataset or a record is not cached, one sentence for each reason with what to do about it; it
// is empty while everything is. Caches answer correctly all the same, from the shared tier and their loaders. Do not put the list
// into the service's readiness: trouble of Redis makes it long on every node at once, and a balancer would then have no node
// left. It is for alerts, and for a preference among nodes. The node also logs each reason that lasts, and Nodes shows them. It
// is safe for concurrent use.
func (n *Node) NotReady() []string {
	var out []string
	for _, r := range (readiness{n}).reasons() {
		out = append(out, r.text)
	}
	return out
}

// readiness finds out why a node does not cache.
type readiness struct{ n *Node }

func (rd readiness) reasons() []reason {
	n := rd.n
	n.mu.Lock()
	closed := n.closed
	n.mu.Unlock()
	if closed {
		return []reason{{"closed", "the node is closed"}}
	}
	out := rd.ofLanes()
	for _, name := range n.names {
		out = append(out, rd.ofSection(n.datasets[name])...)
	}
	for _, c := range *n.caches.Load() {
		if s := c.Stats(); s.Problem != "" {
			out = append(out, reason{"loader of " + c.title(), c.title() + ": " + s.Problem})
		}
	}
	if why := n.unlisted.Load(); why != nil && len(out) == 0 {
		out = append(out, reason{"presence", "the list of nodes does not show this node: " + *why})
	}
	return out
}

// ofLanes are those of lanes; lanes with the same one share it.
func (rd readiness) ofLanes() []reason {
	n := rd.n
	var out []reason
	lanes := map[string][]int{}
	for _, f := range n.lanes {
		kind, text := f.reason()
		if kind == "" {
			continue
		}
		if lanes[text] == nil {
			out = append(out, reason{kind, text})
		}
		lanes[text] = append(lanes[text], f.n)
	}
	if i := slices.IndexFunc(out, func(r reason) bool { return r.kind == refusedLane }); i >= 0 {
		out = out[i : i+1] // that others are missing, for instance, follows from it
	}
	for i, r := range out {
		out[i].text = laneList(lanes[r.text]) + " of namespace " + n.cfg.Namespace + r.text
		if n.passes.Load() {
			out[i].text += "; the client that Join was given gets through: the node's own connections are made from its Options and run none of its hooks," +
				" so set there what connections need (Dialer, OnConnect, CredentialsProvider)"
		}
	}
	return out
}

func laneList(lanes []int) string {
	names := make([]string, 0, maxNamedLanes)
	for _, l := range lanes[:min(len(lanes), maxNamedLanes)] {
		names = append(names, fmt.Sprint(l))
	}
	list := "lane " + strings.Join(names, ", ")
	if more := len(lanes) - maxNamedLanes; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// reason returns why the lane's keys are not cached, without the lane's name; no kind: they are.
func (f *follower) reason() (kind, text string) {
	exists, fresh := f.view.exists.Load(), f.fresh(f.node.now())
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.refusal != nil:
		return refusedLane, ": " + f.refusal.Error()
	case f.subscribing != nil && !f.live.Load():
		return kindOf(unsubscribed, f.subscribing), " cannot be subscribed to: " + f.subscribing.Error() + fixOf(f.subscribing)
	case f.syncing != nil:
		return kindOf(unreadLane, f.syncing), " cannot be read: " + f.syncing.Error() + fixOf(f.syncing)
	case !exists && !f.looked():
		return unseenLane, " was not looked at yet"
	case !exists:
		return missingLane, " does not exist; workers make lanes: start one, or correct Config.Namespace or the database of the Redis client"
	case !fresh:
		return unconfirmedLane, ": the node cannot show that it saw everything; look at its link to Redis"
	case f.trouble.Load() >= maxTrouble && f.sharing != nil:
		return unsharedLane, ": shared entries cannot be read: " + f.sharing.Error() + fixOf(f.sharing)
	}
	return "", ""
}

func kindOf(kind string, err error) string {
	if denied(err) {
		return deniedLane
	}
	return kind
}

// denied reports whether the Redis user may not run a command, by itself or in a script; releases word the latter in two ways.
func denied(err error) bool {
	return redis.IsPermissionError(err) || strings.Contains(err.Error(), "The user executing the script can't") ||
		strings.Contains(err.Error(), "ACL failure in script")
}

// ofSection are those of one dataset's cache section, in lanes that exist.
func (rd readiness) ofSection(d *dataset) []reason {
	n := rd.n
	var differs, unknown []int
	for i, f := range n.lanes {
		a := &d.lanes[i]
		switch {
		case !f.view.exists.Load() || a.agreed.Load():
		case a.differs.Load():
			differs = append(differs, i)
		case !a.known.Load():
			unknown = append(unknown, i)
		}
	}
	var out []reason
	name := d.declared.Name
	if len(differs) > 0 {
		out = append(out, reason{"section " + name, fmt.Sprintf("dataset %s is not cached: its cache section differs from the workers' in %s; give this "+
			"program and the workers the same dataset files (freshet schema hash prints the hash, here %s)", name, laneList(differs), d.hash)})
	}
	if len(unknown) > 0 {
		out = append(out, reason{"section " + name, fmt.Sprintf("dataset %s is not cached: the workers of namespace %s have no cache section for it in %s; "+
			"give them this program's dataset files, or correct Config.Namespace", name, n.cfg.Namespace, laneList(unknown))})
	}
	return out
}

// fixOf returns what to do about an error that does not pass by itself.
func fixOf(err error) string {
	switch {
	case denied(err):
		return "; " + fixACL
	case redis.IsAuthError(err):
		return "; correct the user name and the password of the Redis client"
	case redis.IsReadOnlyError(err):
		return "; give Join a client of the master"
	case redis.IsMaxClientsError(err):
		return "; raise maxclients of Redis"
	}
	return ""
}

// watch logs every reason that lasts, once per warnInterval.
func (rd readiness) watch() {
	n := rd.n
	t := time.NewTicker(min(n.cfg.PollInterval, time.Second))
	defer t.Stop()
	seen, warned := map[string]int{}, map[string]time.Time{}
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-t.C:
		}
		reasons := rd.reasons()
		last := map[string]int{}
		for _, r := range reasons {
			last[r.kind] = seen[r.kind] + 1
		}
		rd.comparePaths(reasons, last)
		for _, r := range rd.reasons() {
			if r.kind != unseenLane && last[r.kind] >= warnAfter && (warned[r.kind].IsZero() || time.Since(warned[r.kind]) >= warnInterval) {
				warned[r.kind] = time.Now()
				n.log.Warn("not cached", "reason", r.text)
			}
		}
		for kind, looks := range seen {
			if looks >= warnAfter && last[kind] == 0 {
				n.log.Info("cached again", "reason", kind)
			}
		}
		seen = last
	}
}

// comparePaths finds out, before a lane's reason is logged and seldom after that, whether the client that Join was given gets
// through where the node's own connections do not.
func (rd readiness) comparePaths(reasons []reason, looks map[string]int) {
	n := rd.n
	i := slices.IndexFunc(reasons, func(r reason) bool { return r.kind == unsubscribed || r.kind == unreadLane || r.kind == missingLane })
	if i < 0 {
		n.passes.Store(false)
		return
	}
	kind := reasons[i].kind
	if looks[kind] != warnAfter-1 && looks[kind]%100 != 0 {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, controlTimeout)
	defer cancel()
	exists, err := n.given.Exists(ctx, n.reader.Keys(0).Meta).Result()
	n.passes.Store(err == nil && (exists == 1 || kind != missingLane))
}

// CheckHandler returns a handler that tells a balancer whether the node serves from memory: 204 while NotReady is empty, and
// 503 with one of its reasons per line otherwise. Give it a path of its own, apart from the service's readiness, and let the
// balancer use it to prefer nodes only as long as enough of them answer 204: when Redis is away none does, and each of them
// still answers its requests correctly. The handler is safe for concurrent use, and costs no look at Redis.
func (n *Node) CheckHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		reasons := n.NotReady()
		if len(reasons) == 0 {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, strings.Join(reasons, "\n")+"\n") // the balancer looks at the status
	})
}

// doubt leaves the lane's keys alone until the next look at it: it was flushed, perhaps for other cache sections, and what is
// loaded by the node's own could miss what follows.
func (f *follower) doubt() {
	f.agreeing.Lock()
	defer f.agreeing.Unlock()
	f.doubts.Add(1)
	for _, d := range f.node.datasets {
		d.lanes[f.n].agreed.Store(false)
	}
	signal(f.now)
}

// agree compares the lane's cache sections with the node's. What was asked for before the last doubt is not an answer to it.
func (f *follower) agree(st *lane.State, doubts uint64) {
	f.agreeing.Lock()
	defer f.agreeing.Unlock()
	if f.doubts.Load() != doubts {
		return
	}
	for name, d := range f.node.datasets {
		a := &d.lanes[f.n]
		got, ok := st.Hashes[name]
		agreed := ok && got == d.hash
		a.known.Store(ok)
		a.differs.Store(ok && !agreed)
		if agreed == a.agreed.Load() {
			continue
		}
		if agreed {
			a.since.Store(f.node.clock.now.Add(1)) // keys may have been named otherwise until now
		}
		a.agreed.Store(agreed)
	}
}
