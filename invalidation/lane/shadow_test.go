package lane_test

import (
	"maps"
	"strconv"
	"strings"

	"github.com/freshet/freshet/invalidation/lane"
)

// A shadow is one lane as the protocol's text describes it, in Go and in ticks instead of milliseconds. The scripts must
// give the same replies and leave the same state.
type shadow struct {
	hold, leaseTTL, maxTags int // ticks, ticks, tags

	now    int
	exists bool
	root   string
	seq    int64
	last   string
	wm     map[string]int64
	floors [2]map[string]int64
	until  [2]int
	tie    int // the hash in use when both are needed until the same tick: Redis counts finer
	fa     int
	tags   map[string]stamp // "*" or "=tag"
	keys   map[string]held
}

type stamp struct {
	seq int64
	at  int
}

// held is what lies at a value key.
type held struct {
	lease        bool
	version      int64 // of a value
	floor        int64 // of a lease
	token, value string
	root         string
	seq          int64
	at, expiry   int // lease time; end of the key
	tags         []string
}

func newShadow(hold, leaseTTL, maxTags int) *shadow {
	s := &shadow{hold: hold, leaseTTL: leaseTTL, maxTags: maxTags}
	s.lose()
	return s
}

// lose is FLUSHALL.
func (s *shadow) lose() {
	s.loseMeta()
	s.floors = [2]map[string]int64{{}, {}}
	s.tags, s.keys = map[string]stamp{}, map[string]held{}
}

func (s *shadow) loseMeta() {
	s.exists, s.root, s.seq, s.last, s.fa = false, "", 0, "", 0
	s.until, s.wm = [2]int{}, map[string]int64{}
}

func (s *shadow) tick() {
	s.now++
	maps.DeleteFunc(s.keys, func(_ string, h held) bool { return h.expiry <= s.now })
}

func (s *shadow) append(nonce uint64) {
	s.seq++
	s.last = strconv.FormatInt(s.seq, 10) + "-" + strconv.FormatUint(nonce, 10)
}

func (s *shadow) setRoot(expected string, nonce uint64, source string, wm int64, hold int) lane.Reply {
	if s.root != expected {
		return lane.Reply{Status: lane.RootChanged, Root: s.root}
	}
	s.append(nonce)
	s.exists, s.root = true, strconv.FormatUint(nonce, 10)
	if hold > 0 {
		s.fa = s.now + hold
	}
	if old, ok := s.wm[source]; source != "" && (!ok || wm > old) {
		s.wm[source] = wm
	}
	return lane.Reply{Status: lane.OK, Root: s.root}
}

func (s *shadow) emit(root string, start int64, e lane.Emission, nonce uint64) lane.Reply {
	if !s.exists || root != s.root {
		return lane.Reply{Status: lane.RootChanged, Root: s.root}
	}
	wm, known := s.wm[e.Source]
	next := start
	if known {
		next = wm + 1
	}
	if e.From > next {
		return lane.Reply{Status: lane.Regressed, Next: next}
	}
	if e.To >= e.From && (!known || e.To > wm) {
		s.wm[e.Source] = e.To
	}
	if len(e.Items)+len(e.Tags) > 0 {
		s.invalidate(e.Items, e.Keep)
		s.append(nonce)
		s.stampTags(e.Tags)
	}
	return lane.Reply{Status: lane.OK, ID: s.last, Root: root}
}

func (s *shadow) invalidate(items []lane.Item, keep bool) {
	if s.hold > 0 && len(items) > 0 {
		s.restrain(items)
	}
	for _, it := range items {
		h, ok := s.keys[it.Key]
		if ok && keep && s.hold > 0 && !h.lease && h.root == s.root && it.Version > 0 && h.version >= it.Version {
			continue
		}
		delete(s.keys, it.Key)
	}
}

// restrain writes the floors.
func (s *shadow) restrain(items []lane.Item) {
	in := s.tie
	if s.until[1] != s.until[0] {
		in = 0
		if s.until[1] > s.until[0] {
			in = 1
		}
	}
	if s.until[1-in] <= s.now {
		in = 1 - in
		s.floors[in], s.until[in] = map[string]int64{}, 0
	}
	for _, it := range items {
		f := it.Version
		if f == 0 {
			f = lane.PrimaryOnly
		}
		s.floors[in][it.Key] = max(s.floors[in][it.Key], f)
	}
	s.until[in] = max(s.until[in], s.now+s.hold)
}

func (s *shadow) stampTags(tags []string) {
	if len(tags) == 0 {
		return
	}
	if len(s.tags)+len(tags) > s.maxTags {
		s.tags = map[string]stamp{"*": {s.seq, s.now}}
	}
	for _, t := range tags {
		s.tags["="+t] = stamp{s.seq, s.now}
	}
}

// stamped reports whether the overflow mark or one of the tags has a stamp that ok accepts.
func (s *shadow) stamped(tags []string, ok func(stamp) bool) bool {
	for _, name := range append([]string{"*"}, tags...) {
		if name != "*" {
			name = "=" + name
		}
		if st, found := s.tags[name]; found && ok(st) {
			return true
		}
	}
	return false
}

func (s *shadow) get(key, token string) lane.GetReply {
	if !s.exists {
		return lane.GetReply{Status: lane.GetNoLane}
	}
	if h, ok := s.keys[key]; ok && h.root == s.root {
		switch {
		case h.lease && h.token == token:
			return lane.GetReply{Status: lane.GetLease, Floor: h.floor, Root: h.root}
		case h.lease:
			return lane.GetReply{Status: lane.GetBusy, Floor: h.floor}
		case len(h.tags) == 0 || !s.stamped(h.tags, func(st stamp) bool { return st.seq > h.seq }):
			return lane.GetReply{Status: lane.GetHit, Version: h.version, Value: []byte(h.value), Tags: h.tags, Root: h.root}
		}
	}
	var floor int64
	for i, f := range s.floors {
		if s.until[i] > s.now {
			floor = max(floor, f[key])
		}
	}
	if s.fa > s.now {
		floor = lane.PrimaryOnly
	}
	s.keys[key] = held{lease: true, floor: floor, token: token, root: s.root, seq: s.seq, at: s.now, expiry: s.now + s.leaseTTL}
	return lane.GetReply{Status: lane.GetLease, Floor: floor, Root: s.root}
}

func (s *shadow) fill(r lane.FillRequest, ttl int) lane.FillStatus {
	h, ok := s.keys[r.Key]
	if !ok || !h.lease || h.token != r.Token || !s.exists || h.root != s.root {
		return lane.FillLost
	}
	if h.floor == lane.PrimaryOnly {
		if !r.Primary {
			return lane.FillPrimary
		}
	} else if h.floor > r.Version {
		return lane.FillStale
	}
	if len(r.Tags) > 0 {
		if s.stamped(r.Tags, func(st stamp) bool { return st.seq > h.seq }) {
			return lane.FillLost
		}
		if !r.Primary && s.stamped(r.Tags, func(st stamp) bool { return h.at-st.at < s.hold }) {
			return lane.FillPrimary
		}
	}
	s.keys[r.Key] = held{
		version: r.Version, value: string(r.Value), root: h.root, seq: h.seq, expiry: s.now + ttl,
		tags: strings.FieldsFunc(strings.Join(r.Tags, "\n"), func(c rune) bool { return c == '\n' }),
	}
	return lane.FillOK
}
