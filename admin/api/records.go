package api

import (
	"encoding/json"
	"time"

	"github.com/freshet/freshet/admin/report"
)

// Record is everything that is known of one record on every tier.
type Record struct {
	Dataset   string `json:"dataset"`
	Key       string `json:"key"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Verdict says in one sentence whether the copies agree, and if not, why.
	Verdict string `json:"verdict"`
	// Fresh: every copy that is served is as new as the replica, and the replica as the topic.
	Fresh  bool              `json:"fresh"`
	Kafka  KafkaSide         `json:"kafka"`
	Row    *RowSide          `json:"row,omitempty"`
	Shared *report.Shared    `json:"shared,omitempty"`
	Nodes  []report.NodeCopy `json:"nodes"`
	// Letters are the record's open dead letters.
	Letters []Letter `json:"letters"`
}

// KafkaSide is what the topic says of a record.
type KafkaSide struct {
	// From and To bound the offsets that were looked through.
	From      int64     `json:"from"`
	To        int64     `json:"to"`
	Committed int64     `json:"committed" doc:"the group's offset; -1 without one"`
	Events    []Message `json:"events" doc:"the record's events in that range, newest last"`
}

// RowSide is the replica row.
type RowSide struct {
	Version int64           `json:"version"`
	Deleted bool            `json:"deleted"`
	At      time.Time       `json:"at" doc:"the broker's time of the event that wrote the row"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Message is one event of a topic, or a record that cannot be read as one.
type Message struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Time      time.Time         `json:"time" doc:"the broker's"`
	Key       string            `json:"key"`
	ID        string            `json:"id,omitempty"`
	Type      string            `json:"type,omitempty"`
	Op        string            `json:"op,omitempty"`
	Version   int64             `json:"version,omitempty"`
	Size      int               `json:"size"`
	Problem   string            `json:"problem,omitempty" doc:"why the record is not an event that could be applied"`
	Headers   map[string]string `json:"headers,omitempty"`
	Data      json.RawMessage   `json:"data,omitempty"`
}
