package model_test

import (
	"fmt"
	"math/rand"
)

// The modelled world. Small on purpose: short runs over many seeds reach more interleavings than long runs.
//
// Cache keys 0..3 are records (their cache entry carries the row version), 4..5 are derived keys
// ("user:email:<x>", no version), 6..7 are pages that depend on rows only through tags.
const (
	nRec, nDer, nPage = 4, 2, 2
	firstDer          = nRec
	firstPage         = nRec + nDer
	nKeys             = nRec + nDer + nPage
	dataParts         = 2
	invPart           = dataParts // the topic of other writers' invalidations
	nParts            = dataParts + 1
	nLanes            = 2
	nNodes            = 3
	nTags             = 2
	streamLen         = 5 // entries kept by the trimmed stream
)

// laneOf plays the role of crc32(key) mod L. Records of one partition belong to different lanes.
var laneOf = [nKeys]int{0, 1, 1, 0, 0, 1, 0, 1}

// tagsOf returns the tags an entry carries under a section: page 6 has tag 0 (under section 1 tag 1), page 7 has both.
func tagsOf(sec, c int) []int { return pageTags[sec][c] }

var pageTags = [2][nKeys][]int{{6: {0}, 7: {0, 1}}, {6: {1}, 7: {0, 1}}}

// row is a replica row. mail 0 or 1 selects a derived key, 2 selects none.
type row struct{ ver, mail int }

// event is a Kafka record: the full new row of one record key; bad: the table refuses it, so that it becomes a letter.
// In invPart it is what another writer made stale instead.
type event struct {
	key, ver, mail int
	bad            bool
	names, tags    []int
}

func partOf(k int) int { return k % dataParts }

// derived returns the derived cache keys of a row. Records 0 and 1 (different partitions) share them. Section 1 swaps them.
func derived(sec, k int, r row) []int {
	if k < 2 && r.ver > 0 && r.mail < nDer {
		return []int{firstDer + (r.mail ^ sec)}
	}
	return nil
}

// eventTags returns the tags that a change of record k invalidates.
func eventTags(sec, k int) []int {
	switch k {
	case 3:
		return []int{sec}
	case 2:
		return []int{1 - sec}
	}
	return nil
}

// eval is what a loader computes for cache key c from a database state.
func eval(sec, c int, db *[nRec]row) int {
	switch {
	case c < firstDer:
		return db[c].ver
	case c < firstPage:
		v := 0
		for k := range 2 {
			v *= 1000
			for _, d := range derived(sec, k, db[k]) {
				if d == c {
					v += db[k].ver
				}
			}
		}
		return v
	case c == firstPage:
		return db[3].ver
	default:
		return db[3].ver*1000 + db[2].ver
	}
}

// change is one committed row change, for the secondary and for the checker.
type change struct {
	key   int
	row   row
	t     int
	p, of int
}

// touch says: change number idx (1-based), caused by offset off of partition p, altered a cache key's true value.
type touch struct{ p, off, idx int }

type sim struct {
	m   mut
	r   *rand.Rand
	now int

	// Other writers draw from r2, so that the seeds without them play as if there were none.
	r2       *rand.Rand
	parts    int // partitions in use: dataParts, or all
	others   *others
	roll     *rollout // a change of the cache section; nil in most seeds
	previous previous // masters that were replaced

	// randomised per seed
	lag, tombTTL, leaseTTL, valTTL, writes, keep int
	quietFrom                                    int   // no writes after this tick: late faults then hit last writes
	deep                                         int   // a failover loses up to deep snapshots
	lagRate, lossy, prim                         int   // prim: one load in prim reads the primary unasked
	hotRecs, hotKeys                             []int // most writes and reads go here, for more collisions
	l1only                                       bool
	bounded                                      bool // nodes keep loads from the primary that the shared tier does not take
	early                                        bool // nodes keep a load before the shared tier has taken it
	follower                                     bool // node 2 is a simple follower
	hold0                                        bool // namespace without hold: every load reads the primary, lag = TombTTL = 0
	noKeep                                       bool // this emit deletes values without looking at their version

	// Kafka
	log       [nParts][]event
	committed [nParts]int
	srcRow    [nRec]row

	// MySQL: primary, its change log, the lagging secondary, and the protocol's own tables
	db        [nRec]row
	changes   []change
	sec       [nRec]row
	secPos    int
	displaced [nParts]map[int][]int       // freshet_displaced: offset -> derived keys the event displaced
	purged    [nParts]int                 // highest offset whose displaced rows may be gone, else -1
	start     [nParts][nLanes]map[int]int // freshet_lane: root -> first offset emitted into it
	dbTime    [nParts]map[int]int         // position row: offset -> commit time (stands for "offset at now-R")

	lanes   [nLanes]*lane
	snaps   [nLanes][]*lane
	nodes   [nNodes]*node
	workers [nParts]*worker
	zombies []*worker
	ids     int // source of nonces and tokens
	faults  bool

	chk   checker
	trace func(string)
}

func (s *sim) has(m mut) bool     { return s.m&m != 0 }
func (s *sim) splits() bool       { return s.has(splitEmit) || s.hold0 && s.has(hold0Split) }
func (s *sim) appendsFirst() bool { return s.has(appendFirst) || s.hold0 && s.has(hold0AppendFirst) }
func (s *sim) id() int            { s.ids++; return s.ids }
func (s *sim) tr(f string, a ...any) {
	if s.trace != nil {
		s.trace(fmt.Sprintf("%4d wm=%v/%v com=%v | ", s.now, s.lanes[0].wm, s.lanes[1].wm, s.committed) + fmt.Sprintf(f, a...))
	}
}

func newSim(seed int64, m mut) *sim {
	s := &sim{m: m, r: rand.New(rand.NewSource(seed)), r2: rand.New(rand.NewSource(seed ^ 0x5deece66d)), faults: true}
	s.previous = newPrevious(seed, m)
	s.bounded = seed%3 == 0 || m&needBounded != 0
	s.early = seed%4 == 1 || m&earlyUnchecked != 0
	s.lag = []int{0, 20, 60, 200}[s.r.Intn(4)]
	s.lagRate = []int{8, 32, 1000}[s.r.Intn(3)]
	s.quietFrom = []int{150, 1 << 20}[s.r.Intn(2)]
	s.deep = []int{1, 3, 10}[s.r.Intn(3)]
	s.prim = []int{2, 20}[s.r.Intn(2)]
	s.lossy = []int{1, 4, 8}[s.r.Intn(3)]
	s.hotRecs = [][]int{{0, 1, 2, 3}, {0, 1}, {2, 3}, {0}, {1}, {3}}[s.r.Intn(6)]
	for _, k := range s.hotRecs {
		s.hotKeys = append(s.hotKeys, k, []int{4, 5, 7, 6}[k], []int{5, 4, 7, 7}[k])
	}
	s.tombTTL = s.lag + 5
	s.leaseTTL = []int{15, 60, 200}[s.r.Intn(3)]
	s.valTTL = []int{8, 60, 1 << 20, 1 << 20}[s.r.Intn(4)]
	s.writes = []int{1, 2, 4, 8}[s.r.Intn(4)]
	s.keep = []int{s.lag + 30, 150, 1 << 20}[s.r.Intn(3)]
	s.keep = max(s.keep, s.lag+30)
	s.l1only = s.r.Intn(4) == 0
	s.follower = s.r.Intn(2) == 0
	s.hold0 = s.r.Intn(4) == 0 || s.has(allHold0)
	s.parts = dataParts
	if s.r2.Intn(3) == 0 || s.m&needOthers != 0 {
		s.parts, s.others = nParts, &others{}
	}
	r3 := rand.New(rand.NewSource(seed ^ 0x2545f491))
	if m&^allHold0 == 0 && s.others == nil && r3.Intn(3) == 0 || m&(needRollout|allRollout) != 0 {
		s.roll = &rollout{r: r3}
		s.parts, s.others = dataParts, nil
		for k := range dataParts { // rows whose events are older than the window: to emit it again does not name them
			s.srcRow[k] = row{1, r3.Intn(nDer)}
			s.db[k], s.sec[k] = s.srcRow[k], s.srcRow[k]
		}
		if r3.Intn(3) == 0 { // the secondary still lacks what the previous section's workers wrote
			s.lag, s.lagRate, s.tombTTL, s.keep = 200, 1000, 205, max(s.keep, 230)
		}
	}
	if s.hold0 {
		s.tombTTL = 0
		if !s.has(hold0Lagging) {
			s.lag = 0
		}
	}
	for p := range s.start {
		s.displaced[p], s.dbTime[p], s.purged[p] = map[int][]int{}, map[int]int{}, -1
		for l := range s.start[p] {
			s.start[p][l] = map[int]int{}
		}
		s.workers[p] = newWorker(s, p)
	}
	for l := range s.lanes {
		s.lanes[l] = &lane{n: l}
		s.newRoot(l, false, -1, 0)
	}
	for i := range s.nodes {
		s.nodes[i] = newNode(s, i)
	}
	return s
}

// write publishes one event, now and then a replay of an old one.
func (s *sim) write() {
	k := s.hotRecs[s.r.Intn(len(s.hotRecs))]
	if s.r.Intn(8) == 0 {
		k = s.r.Intn(nRec)
	}
	if l := s.log[partOf(k)]; len(l) > 0 && s.r.Intn(10) == 0 {
		s.log[partOf(k)] = append(l, l[s.r.Intn(len(l))])
		return
	}
	s.srcRow[k].ver++
	s.srcRow[k].mail = s.r.Intn(nDer + 1)
	e := event{key: k, ver: s.srcRow[k].ver, mail: s.srcRow[k].mail}
	e.bad = s.others != nil && s.r2.Intn(3) == 0
	s.log[partOf(k)] = append(s.log[partOf(k)], e)
}

// replicate moves the secondary forward; no change stays invisible there for more than s.lag.
func (s *sim) replicate() {
	for s.secPos < len(s.changes) && (s.changes[s.secPos].t <= s.now-s.lag || s.r.Intn(s.lagRate) == 0) {
		c := s.changes[s.secPos]
		s.sec[c.key] = c.row
		s.secPos++
	}
}

// step lets one randomly chosen actor make one atomic step.
func (s *sim) step() {
	s.now++
	s.replicate()
	if s.others != nil && s.r2.Intn(8) == 0 {
		s.others.step(s)
	}
	if s.roll != nil && s.faults && s.roll.r.Intn(10) == 0 {
		s.roll.step(s)
	}
	if s.faults {
		s.previous.step(s)
	}
	n := s.nodes[s.r.Intn(nNodes)]
	l := s.r.Intn(nLanes)
	switch x := s.r.Intn(100); {
	case x < 8:
		if s.faults && s.now < s.quietFrom && s.r.Intn(8) < s.writes {
			s.write()
		}
	case x < 33:
		s.workers[s.r.Intn(s.parts)].step(s)
	case x < 36:
		if len(s.zombies) > 0 {
			j := s.r.Intn(len(s.zombies))
			s.zombies[j].step(s)
			if s.zombies[j].dead() {
				s.zombies = append(s.zombies[:j], s.zombies[j+1:]...)
			}
		}
	case x < 50:
		n.receive(s, l)
	case x < 54:
		n.poll(s, l)
	case x < 67:
		c := s.hotKeys[s.r.Intn(len(s.hotKeys))]
		if s.r.Intn(4) == 0 {
			c = s.r.Intn(nKeys)
		}
		n.read(s, c)
	case x < 93:
		if len(n.fills) > 0 {
			n.stepFill(s, s.r.Intn(len(n.fills)))
		}
	case x < 95:
		s.snaps[l] = append(s.snaps[l], s.lanes[l].clone())
	default:
		if s.faults {
			s.fault(n, l)
		}
	}
}

func (s *sim) fault(n *node, l int) {
	switch s.r.Intn(14) {
	case 0, 1: // worker crash, new owner
		p := s.r.Intn(s.parts)
		s.workers[p] = newWorker(s, p)
	case 2, 3: // rebalance while the old owner still runs its batch
		p := s.r.Intn(s.parts)
		z := *s.workers[p]
		z.zombie = true
		if z.phase != idle && z.phase != repairing {
			s.zombies = append(s.zombies, &z)
		}
		s.workers[p] = newWorker(s, p)
	case 4, 5: // Pub/Sub connection lost, queued messages vanish
		n.lane[l].connected, n.lane[l].inbox = false, nil
	case 6, 7, 8:
		n.lane[l].connected = true
	case 9:
		n.restart(s)
	case 10: // one message lost
		if q := n.lane[l].inbox; len(q) > 0 {
			n.lane[l].inbox = q[1:]
		}
	case 11, 12: // this lane's master fails over to a replica that holds an older prefix
		if len(s.snaps[l]) > 0 && s.r.Intn(s.lossy) < 2 {
			j := len(s.snaps[l]) - 1 - s.r.Intn(min(s.deep, len(s.snaps[l])))
			s.previous.replaced(s, l)
			s.lanes[l] = s.snaps[l][j].clone()
			s.snaps[l] = s.snaps[l][:j]
			s.chk.losses++
			s.tr("FAILOVER lane %d", l)
			for _, m := range s.nodes {
				if s.r.Intn(2) == 0 {
					m.lane[l].inbox = nil
				}
			}
		}
	case 13: // FLUSHALL on this lane's master
		if s.r.Intn(s.lossy) == 0 {
			s.wipe(l)
		}
	}
}

func (s *sim) wipe(l int) {
	s.lanes[l], s.snaps[l] = &lane{n: l}, nil
	s.chk.losses++
	s.tr("FLUSHALL lane %d", l)
}

// run plays a fault phase, a calm phase and a deterministic drain, then checks equality everywhere.
func run(seed int64, ticks int, m mut, trace func(string)) (*sim, []string) {
	s := newSim(seed, m)
	s.trace = trace
	for range ticks {
		s.step()
	}
	s.faults = false
	for _, n := range s.nodes {
		for l := range n.lane {
			n.lane[l].connected = true
		}
	}
	for range 500 {
		s.step()
	}
	for range 12 {
		if s.others != nil {
			s.others.finish(s)
		}
		if s.roll != nil {
			s.roll.finish(s)
		}
		for _, w := range s.workers[:s.parts] {
			for range 150 {
				w.step(s)
			}
		}
		for _, n := range s.nodes {
			for l := range n.lane {
				for len(n.lane[l].inbox) > 0 {
					n.receive(s, l)
				}
				n.poll(s, l)
			}
			for i := 0; len(n.fills) > 0 && i < 1000; i++ {
				n.stepFill(s, 0)
			}
		}
		s.now++
	}
	return s, s.verdict()
}
