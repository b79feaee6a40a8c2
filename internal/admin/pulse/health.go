package pulse

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
)

// Codes of api.Problem.
const (
	codeFresh      = "fresh"
	codeQuiet      = "quiet"
	codeStarting   = "starting"
	codeNoData     = "no_data"
	codeServer     = "server_away"
	codeStale      = "stale_records"
	codeTopic      = "topic_unreadable"
	codePaused     = "dataset_paused"
	codeBehind     = "partitions_behind"
	codeWaits      = "worker_waits"
	codeSilent     = "worker_silent"
	codeNoWorkers  = "no_workers"
	codeNodes      = "nodes_silent"
	codeBypass     = "nodes_bypass"
	codeDisagree   = "nodes_disagree"
	codeLetters    = "dead_letters"
	maxProblems    = 50
	maxPartitions  = 20
	behindAfter    = 5 * time.Second  // a warning
	farBehindAfter = 30 * time.Second // bad
)

// problems returns what is wrong, worst first.
func (l *Look) problems() []api.Problem {
	var out []api.Problem
	add := func(level, code string, args api.ProblemArgs) {
		out = append(out, api.Problem{Level: level, Code: code, Args: args})
	}
	if l.Starting {
		args := api.ProblemArgs{}
		if len(l.Waiting) > 0 {
			args.Waits = serverWait(l.Waiting[0])
		}
		add(api.LevelWarn, codeStarting, args)
	}
	for _, s := range l.Sick {
		add(api.LevelBad, codeServer, api.ProblemArgs{Server: s})
	}
	if k := l.Known; len(l.Sick) == 0 && !l.Starting && (!k.Lag || !k.Nodes || !k.Workers || !k.Census) {
		add(api.LevelWarn, codeNoData, api.ProblemArgs{})
	}
	l.staleRecords(add)
	l.workerProblems(add)
	l.pauseProblems(add)
	l.partitionProblems(add)
	l.nodeProblems(add)
	if l.Known.Census && l.Letters > 0 {
		add(api.LevelWarn, codeLetters, api.ProblemArgs{Count: l.Letters})
	}
	rank := map[string]int{api.LevelBad: 0, api.LevelWarn: 1}
	slices.SortStableFunc(out, func(a, b api.Problem) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
	out = out[:min(len(out), maxProblems)]
	for i := range out {
		out[i].Sentence = sentence(&out[i])
	}
	return out
}

type adder func(level, code string, args api.ProblemArgs)

// staleRecords adds what the samplers of workers found and is still stale.
func (l *Look) staleRecords(add adder) {
	var all []report.Stale
	for _, w := range l.Workers {
		if w.Alive && w.Consistency != nil {
			all = append(all, w.Consistency.Stale...)
		}
	}
	if len(all) == 0 {
		return
	}
	first := slices.MinFunc(all, func(a, b report.Stale) int { return a.Since.Compare(b.Since) })
	age := max(0, l.At.Sub(first.Since).Seconds())
	add(api.LevelBad, codeStale, api.ProblemArgs{
		Count: int64(len(all)), Dataset: first.Dataset, Key: first.Key, Tier: first.Tier, Node: first.Node, Seconds: &age,
	})
}

func (l *Look) workerProblems(add adder) {
	if !l.Known.Workers {
		return
	}
	if l.Datasets > 0 && l.aliveWorkers() == 0 {
		add(api.LevelBad, codeNoWorkers, api.ProblemArgs{})
	}
	for _, w := range l.silentWorkers() {
		add(api.LevelWarn, codeSilent, api.ProblemArgs{Worker: w.Owner, Seconds: &w.Seconds})
	}
	for _, w := range l.Workers {
		if !w.Alive || seconds(w.Seconds) >= silentAfter {
			continue
		}
		for _, why := range append(slices.Clone(w.NotReady), w.Degraded...) {
			if wait := serverWait(why); wait != nil {
				add(api.LevelWarn, codeWaits, api.ProblemArgs{Worker: w.Owner, Server: wait.Server, Waits: wait})
				break
			}
		}
	}
}

func (l *Look) pauseProblems(add adder) {
	for _, dataset := range sortedKeys(l.Pauses) {
		p := l.Pauses[dataset]
		args := api.ProblemArgs{Dataset: dataset, Who: p.Who, Why: p.Why}
		for _, part := range l.Lag {
			if part.Dataset == dataset && part.Records > 0 {
				args.Records += part.Records
				if args.Seconds == nil || part.Seconds > *args.Seconds {
					args.Seconds = &part.Seconds
				}
			}
		}
		add(api.LevelWarn, codePaused, args)
	}
}

// partitionProblems adds a problem for each dataset and cause of what waits.
func (l *Look) partitionProblems(add adder) {
	groups := map[string]*api.ProblemArgs{}
	for i := range l.Lag {
		p := &l.Lag[i]
		switch {
		case p.Waits == nil || p.Waits.Code == waitPaused:
			continue
		case p.Partition < 0:
			add(api.LevelBad, codeTopic, api.ProblemArgs{Dataset: p.Dataset, Topic: p.Topic, Waits: p.Waits})
			continue
		case p.Waits.Code == waitBusy && seconds(p.Seconds) < behindAfter:
			continue
		}
		id := p.Dataset + " " + p.Owner + " " + p.Waits.Code + " " + p.Waits.Server
		if p.Waits.Code == waitStopped {
			id += strconv.Itoa(int(p.Partition)) // each has a reason of its own
		}
		g := groups[id]
		if g == nil {
			g = &api.ProblemArgs{Dataset: p.Dataset, Topic: p.Topic, Worker: p.Owner, Server: p.Waits.Server, Waits: p.Waits, Seconds: new(float64)}
			groups[id] = g
		}
		g.Count++
		g.Records += p.Records + p.Held
		*g.Seconds = max(*g.Seconds, p.Seconds)
		if len(g.Partitions) < maxPartitions {
			g.Partitions = append(g.Partitions, p.Partition)
		}
	}
	var all []*api.ProblemArgs
	for _, id := range sortedKeys(groups) {
		all = append(all, groups[id])
	}
	slices.SortStableFunc(all, func(a, b *api.ProblemArgs) int { return cmp.Compare(*b.Seconds, *a.Seconds) })
	for _, g := range all {
		add(behindLevel(g), codeBehind, *g)
	}
}

func behindLevel(g *api.ProblemArgs) string {
	switch g.Waits.Code {
	case waitStopped, waitRefused, waitNoWorker:
		return api.LevelBad
	case waitServer:
		if seconds(*g.Seconds) >= behindAfter {
			return api.LevelBad
		}
	}
	if seconds(*g.Seconds) >= farBehindAfter {
		return api.LevelBad
	}
	return api.LevelWarn
}

func (l *Look) nodeProblems(add adder) {
	if !l.Known.Nodes {
		return
	}
	if ids, longest := l.silentNodes(); len(ids) > 0 {
		s := longest.Seconds()
		add(api.LevelWarn, codeNodes, api.ProblemArgs{Count: int64(len(ids)), Node: ids[0], Seconds: &s})
	}
	if ids := l.suspectNodes(); len(ids) > 0 {
		add(api.LevelWarn, codeBypass, api.ProblemArgs{Count: int64(len(ids)), Node: ids[0]})
	}
	var args api.ProblemArgs
	for _, n := range l.Nodes {
		if len(n.Disagreeing) > 0 && !n.Suspect {
			if args.Count++; args.Count == 1 {
				args.Node, args.Dataset = n.ID, n.Disagreeing[0]
			}
		}
	}
	if args.Count > 0 {
		add(api.LevelWarn, codeDisagree, args)
	}
}

// well is the problem that there is none.
func (l *Look) well(f api.Freshness) api.Problem {
	p := api.Problem{Level: api.LevelOK, Code: codeQuiet}
	if f.Now != nil {
		p.Code, p.Args.Seconds, p.Args.Count = codeFresh, f.Now, int64(len(l.Nodes))
	}
	p.Sentence = sentence(&p)
	return p
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
