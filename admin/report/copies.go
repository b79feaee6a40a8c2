// Package report has what the consistency checks find: the copies of a record on each tier, which of them are stale, and
// counts. It is data, without the clients that read it.
package report

// Shared is the shared entry.
type Shared struct {
	Name string `json:"name" doc:"cache key"`
	// State is value, lease or none.
	State   string  `json:"state" enum:"value,lease,none"`
	Valid   bool    `json:"valid" doc:"false: no reader takes the value, since its lane was flushed or a tag of it invalidated after it"`
	Version int64   `json:"version"`
	TTL     float64 `json:"ttl_seconds"`
	// Floor is the least version that a fill may store; -1: none. MAX (2^53-1): only loads of the primary fill.
	Floor int64 `json:"floor"`
}

// NodeCopy is a node's local entry.
type NodeCopy struct {
	Node    string `json:"node"`
	Held    bool   `json:"held"`
	Version int64  `json:"version,omitempty"`
	Found   bool   `json:"found,omitempty"`
	Served  bool   `json:"served"`
}

// Copies are what the tiers hold under one cache key. A node that did not answer is not among Nodes.
type Copies struct {
	Shared Shared
	Nodes  []NodeCopy
}

// The tiers that hold copies.
const (
	TierShared = "shared"
	TierLocal  = "local"
)

// Old is a copy that readers get although the replica has a newer version; with Ahead it claims a version that the replica does not have.
type Old struct {
	Tier    string `json:"tier" enum:"shared,local"`
	Node    string `json:"node,omitempty" doc:"whose local entry it is"`
	Version int64  `json:"version" doc:"what readers get"`
	Ahead   bool   `json:"ahead,omitempty" doc:"the version is above the replica's: no change up to it removes the entry"`

	// Row is, with Ahead, the version that the row had then.
	Row int64 `json:"-"`
}

// Older returns the copies that readers get and that are older than version, nodes first. It is the one place that reports what
// a stale copy is: entries without a version, leases, and what no reader takes any more are none.
func (c *Copies) Older(version int64) []Old {
	var out []Old
	for _, n := range c.Nodes {
		if n.Served && n.Version > 0 && n.Version < version {
			out = append(out, Old{Tier: TierLocal, Node: n.Node, Version: n.Version})
		}
	}
	if s := &c.Shared; s.State == "value" && s.Valid && s.Version > 0 && s.Version < version {
		out = append(out, Old{Tier: TierShared, Version: s.Version})
	}
	return out
}

// Above returns the copies that readers get and whose version is above the row's. Changes up to that version leave such a copy in place, so what
// it holds may be of any age.
func (c *Copies) Above(version int64) []Old {
	var out []Old
	for _, n := range c.Nodes {
		if n.Served && n.Version > version {
			out = append(out, Old{Tier: TierLocal, Node: n.Node, Version: n.Version, Ahead: true, Row: version})
		}
	}
	if s := &c.Shared; s.State == "value" && s.Valid && s.Version > version {
		out = append(out, Old{Tier: TierShared, Version: s.Version, Ahead: true, Row: version})
	}
	return out
}
