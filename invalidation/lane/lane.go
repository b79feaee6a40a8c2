// Package lane is the lane protocol and nothing else: key names, the wire format of entries and frames, the Lua scripts
// and their replies. A lane is the complete, ordered record of invalidations for a share of a namespace's cache keys: a
// Redis stream, a meta hash and a channel, all in one hash slot.
package lane

// Protocol constants.
const (
	// Version is the protocol version that this package writes and understands.
	Version = 1
	// MaxKeys and MaxTags bound one payload and one emit script.
	MaxKeys = 100
	MaxTags = 100
	// MaxTraces bounds the traces of one payload.
	MaxTraces = 16
	// MaxLanes bounds the lanes of a namespace: each costs every node a connection and every tag an emit.
	MaxLanes = 256
	// MaxFrame is the greatest frame that a reader accepts, in bytes; a larger one means: flush the lane.
	MaxFrame = 1 << 20
	// PrimaryOnly is the floor that no version reaches: only a load from the primary may fill.
	PrimaryOnly int64 = 1<<53 - 1
)

// Item is one cache key that became stale. Version 0: no comparable version, always delete.
type Item struct {
	Key     string
	Version int64
}

// Trace is a change whose trace is recorded.
type Trace struct {
	// Parent is its traceparent.
	Parent string
	// Key is the cache key that it made stale, "" where a tag stands for that.
	Key string
}

// Emission is what one range of one source's offsets made stale in one lane. It is a function of Kafka and MySQL only.
type Emission struct {
	// Source is the source's name (schemas.SourceName).
	Source string
	// From and To are the first and last offset covered. From continues what the lane acknowledged before.
	From, To int64
	// Time is the broker's time of the newest record, Unix ms.
	Time int64
	// Items are distinct by key. Without items and tags only the watermark moves.
	Items []Item
	Tags  []string
	// Traces are the changes in it whose traces are recorded, for the nodes. A script carries those whose key it has, at most MaxTraces.
	Traces []Trace
	// Keep leaves a value in place that is as new as the change ('k'); otherwise everything named is deleted without
	// looking ('d'). Deleting is always safe; Keep is for ranges that were delivered before, so that they do not empty
	// the cache.
	Keep bool
}

// parents are the traceparents of the changes that the names of e make known.
func (e *Emission) parents() []string {
	if len(e.Traces) == 0 {
		return nil
	}
	keys := make(map[string]bool, len(e.Items)+1)
	keys[""] = len(e.Tags) > 0
	for _, it := range e.Items {
		keys[it.Key] = true
	}
	var out []string
	for _, t := range e.Traces {
		if keys[t.Key] && len(out) < MaxTraces {
			out = append(out, t.Parent)
		}
	}
	return out
}

// Status is a script's answer.
type Status uint8

const (
	// OK: done; Reply.ID is the lane's last entry.
	OK Status = iota + 1
	// RootChanged: the lane has another root than the caller believes (Reply.Root; empty: the lane is missing).
	RootChanged
	// Regressed: the lane has not seen the offsets before From; it expects Reply.Next.
	Regressed
)

// Reply is the answer of the emit and root scripts.
type Reply struct {
	Status Status
	ID     string
	Root   string
	Next   int64
}

// State is what a lane's meta hash says.
type State struct {
	// Exists is false when the lane is missing; everything else is then empty.
	Exists bool
	// Root is the nonce of the entry that created or flushed the lane, Last the newest entry's ID.
	Root, Last string
	// Lanes is the namespace's number of lanes as the lane was made with.
	Lanes int
	// Group is the one consumer group that may emit here.
	Group string
	// PrimaryLoads: the lane was made for a namespace in which every load reads the primary, and has no hold.
	PrimaryLoads bool
	// Watermarks holds wm:<source> of the sources that were asked for and are known.
	Watermarks map[string]int64
	// Hashes holds d:<dataset> of the datasets that were asked for and are known.
	Hashes map[string]string
}

// RootRequest asks for a new root: to create a missing lane, or to flush one.
type RootRequest struct {
	// Expected is the root that is there now; empty: only create the lane if it is missing.
	Expected string
	// Source and Watermark move that source's watermark; Source may be empty.
	Source    string
	Watermark int64
	// Back sets the watermark also when that moves it back: the source's log was cut, and its offsets are given out again. Otherwise
	// watermarks only grow.
	Back bool
	// HoldMillis: during that time after the flush every new lease may only be filled from the primary. 0: the flush is
	// followed by the re-emission of everything that could be missing.
	HoldMillis int64
	// PrimaryLoads notes that the namespace has no hold.
	PrimaryLoads bool
	// Group and Hashes (dataset → hash of its cache section) are set in the same script.
	Group  string
	Hashes map[string]string
}
