package api

import (
	"time"

	"github.com/freshet/freshet/admin/report"
)

// Node is a caching process as it says of itself.
type Node struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	PID        int       `json:"pid"`
	Version    string    `json:"version,omitempty" doc:"of the client library"`
	Address    string    `json:"address,omitempty"`
	Began      time.Time `json:"began"`
	SecondsAgo float64   `json:"seconds_ago" doc:"age of what it says, by the two clocks"`
	// Silence is SecondsAgo without the node's clock.
	Silence float64 `json:"silence_seconds" doc:"how long ago it said so, by Redis' clock"`
	// Suspect: it cannot show that it saw everything, so it bypasses its local tier.
	Suspect     bool        `json:"suspect"`
	Disagreeing []string    `json:"disagreeing,omitempty" doc:"datasets that it does not cache because the cache section differs"`
	NotReady    []string    `json:"not_ready,omitempty" doc:"why it does not cache, and what to do about it"`
	Namespace   string      `json:"namespace,omitempty" doc:"of a stray"`
	Lanes       []NodeLane  `json:"lanes"`
	Caches      []NodeCache `json:"caches"`
}

// NodeLane is a node's place in a lane.
type NodeLane struct {
	Lane     int    `json:"lane"`
	Position string `json:"position" doc:"the newest entry that it knows"`
	// ProofAge is how long ago it last knew to have everything; -1 for never.
	ProofAge float64 `json:"proof_age_seconds"`
	// Delay is how old the newest change of the last entry was when the node had applied it.
	Delay   float64          `json:"delay_seconds"`
	Live    bool             `json:"live"`
	Fresh   bool             `json:"fresh"`
	Gaps    int64            `json:"gaps"`
	Entries int64            `json:"entries" doc:"entries of the lane that it applied since it began"`
	Items   int64            `json:"items" doc:"keys and tags in them"`
	Flushes map[string]int64 `json:"flushes"`
}

// NodeCache is one of a node's caches.
type NodeCache struct {
	Dataset    string  `json:"dataset"`
	Derived    string  `json:"derived,omitempty" doc:"template of a cache of lookups"`
	Entries    int     `json:"entries"`
	Cost       int64   `json:"cost,omitempty" doc:"about the sum of what its entries cost, where the cache is bounded by cost"`
	LocalHits  int64   `json:"local_hits"`
	SharedHits int64   `json:"shared_hits"`
	Loads      int64   `json:"loads"`
	Dropped    int64   `json:"dropped" doc:"local entries that became stale by key"`
	Problem    string  `json:"problem,omitempty" doc:"why what the loader returned was not kept lately"`
	HitRatio   float64 `json:"hit_ratio" doc:"reads that no loader was asked for"`
}

// WorkerState is what a worker says of itself.
type WorkerState struct {
	Owner   string    `json:"owner"`
	Version string    `json:"version,omitempty"`
	Began   time.Time `json:"began"`
	// Address is where its metrics are, "" for nowhere.
	Address    string            `json:"address,omitempty"`
	NotReady   []string          `json:"not_ready,omitempty" doc:"why it cannot work"`
	Degraded   []string          `json:"degraded,omitempty" doc:"what keeps single datasets or partitions from being applied"`
	Partitions []WorkerPartition `json:"partitions,omitempty"`
	Datasets   []WorkerDataset   `json:"datasets,omitempty"`
	// Consistency is what its sampler found; nil without one.
	Consistency *report.Stats `json:"consistency,omitempty"`
	// Seconds since it last said so, by the database's clock; set when it is read.
	Seconds float64 `json:"seconds_ago"`
	Alive   bool    `json:"alive"`
}

// WorkerPartition is one of a worker's partitions.
type WorkerPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Applied   int64  `json:"applied"`
	Committed int64  `json:"committed"`
	Paused    bool   `json:"paused,omitempty"`
	Stopped   bool   `json:"stopped,omitempty"`
	Error     string `json:"error,omitempty"`
}

// WorkerDataset counts the events of one dataset that a worker applied since it began.
type WorkerDataset struct {
	Dataset string `json:"dataset"`
	Events  uint64 `json:"events"`
	// Superseded events have a lower version than their record had, Conflicts the same one and other content.
	Superseded uint64 `json:"superseded"`
	Conflicts  uint64 `json:"conflicts"`
	// Misplaced records are in another partition than the producer's partitioner chooses for their keys.
	Misplaced uint64 `json:"misplaced,omitempty"`
	// VersionsWentBack: most of the recent events were superseded.
	VersionsWentBack bool `json:"versions_went_back,omitempty"`
}
