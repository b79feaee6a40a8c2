package api

import "time"

// Replay is a replay as the API shows it.
type Replay struct {
	ID      string  `json:"id"`
	Spec    JobSpec `json:"spec"`
	State   string  `json:"state" enum:"running,paused,done,failed,cancelled"`
	Actor   string  `json:"actor"`
	Owner   string  `json:"owner,omitempty" doc:"the process that runs it"`
	Problem string  `json:"problem,omitempty"`
	// Takeovers counts how often another process had to continue with it.
	Takeovers        int          `json:"takeovers"`
	Rate             int          `json:"rate,omitempty"`
	InvalidationRate int          `json:"invalidation_rate,omitempty"`
	Created          time.Time    `json:"created"`
	Updated          time.Time    `json:"updated"`
	Total            JobCounts    `json:"total"`
	Parts            []ReplayPart `json:"parts" doc:"empty in a list"`
}

// ReplayPart is one partition of a replay.
type ReplayPart struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	Next      int64 `json:"next"`
	End       int64 `json:"end"`
	JobCounts
	Done    float64     `json:"done" doc:"0 to 1, by offsets"`
	Rate    float64     `json:"rate" doc:"offsets a second"`
	ETA     *float64    `json:"eta_seconds,omitempty"`
	Samples []JobSample `json:"samples,omitempty"`
}

// JobSpec is what a replay was asked to do.
type JobSpec struct {
	Dataset string `json:"dataset"`
	Action  string `json:"action"`
	DryRun  bool   `json:"dry_run"`
	// From, Until and Partitions are the range as it was asked for; the replay's parts have what it came to.
	From       string  `json:"from,omitempty"`
	Until      string  `json:"until,omitempty"`
	Partitions []int32 `json:"partitions,omitempty"`
	// Keys, Prefix, Op and Type choose events; empty means all.
	Keys   []string `json:"keys,omitempty"`
	Prefix string   `json:"prefix,omitempty"`
	Op     string   `json:"op,omitempty"`
	Type   string   `json:"type,omitempty"`
	// LetterReason and Errno choose dead letters of a redrive by what was wrong with them; empty means all.
	LetterReason string `json:"letter_reason,omitempty"`
	Errno        uint16 `json:"errno,omitempty"`
	// DropOld drops the previous table after a rebuild; else it stays under another name.
	DropOld bool `json:"drop_old,omitempty"`
	// AcceptLoss lets a rebuild swap although rows of the previous table are newer than what the topic holds, or not in it.
	AcceptLoss bool   `json:"accept_loss,omitempty"`
	Reason     string `json:"reason"`
}

// JobSample is one event of a replay.
type JobSample struct {
	Outcome string `json:"outcome"`
	Offset  int64  `json:"offset"`
	Key     string `json:"key,omitempty"`
	Version int64  `json:"version,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// JobCounts are the events of a replay: each is applied, stale, invalid, or skipped by a filter.
type JobCounts struct {
	Events      int64 `json:"events"`
	Applied     int64 `json:"applied"`
	Stale       int64 `json:"stale"`
	Invalid     int64 `json:"invalid"`
	Skipped     int64 `json:"skipped"`
	Invalidated int64 `json:"invalidated"`
}
