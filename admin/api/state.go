package api

import "time"

// DatasetState is a dataset's declaration, and how many dead letters it has in each state.
type DatasetState struct {
	Name    string   `json:"name"`
	Topic   string   `json:"topic"`
	Table   string   `json:"table"`
	Format  string   `json:"format"`
	Key     []string `json:"key"`
	Columns []string `json:"columns"`
	Cached  bool     `json:"cached"`
	Pause   *Pause   `json:"pause,omitempty"`
	// Letters counts dead letters by state.
	Letters map[string]int64 `json:"letters"`
}

// Partition is how far one partition is.
type Partition struct {
	Dataset string `json:"dataset"`
	Topic   string `json:"topic"`
	// Partition is -1 where the topic as a whole cannot be read; Error has the reason.
	Partition int32 `json:"partition"`
	// First and End bound what Kafka has; Committed is the group's offset, -1 without one.
	First     int64 `json:"first"`
	End       int64 `json:"end"`
	Committed int64 `json:"committed"`
	// Position is the first offset that the replica has not applied; -1 before the first.
	Position int64 `json:"position" doc:"first offset that the replica has not applied, by MySQL; -1 before the first"`
	// Records is how many are not done, Seconds how long the oldest of them has waited; ETA how long it takes at the rate
	// of the last two looks, absent where that is not known.
	Records int64    `json:"records"`
	Seconds float64  `json:"seconds"`
	ETA     *float64 `json:"eta_seconds,omitempty"`
	Owner   string   `json:"owner,omitempty"`
	Alive   bool     `json:"owner_alive"`
	Paused  bool     `json:"paused,omitempty"`
	Error   string   `json:"error,omitempty"`
	// Held are the records that no reader gets, since an open transaction of another producer comes before them; Transaction is that one,
	// where the brokers can tell (Apache Kafka 3.0).
	Held        int64        `json:"held,omitempty"`
	Transaction *Transaction `json:"transaction,omitempty"`
	// Waits is what the partition waits for; absent if no record waits and nothing keeps it from being applied.
	Waits *Wait `json:"waits,omitempty" doc:"what it waits for"`
}

// Transaction is a transaction that is not ended.
type Transaction struct {
	ProducerID int64     `json:"producer_id"`
	First      int64     `json:"first"`
	LastWrite  time.Time `json:"last_write"`
}

// Entry is one line of the audit log. A change has two: one before it, without an outcome, and one after it that names
// the first.
type Entry struct {
	ID int64 `json:"id" doc:"number of the line"`
	// Of is the line that began what this one ends; 0 for a beginning.
	Of      int64          `json:"of,omitempty" doc:"the line that began what this one ends"`
	At      time.Time      `json:"at" doc:"by the database's clock"`
	Actor   string         `json:"actor" doc:"name of the token"`
	Role    string         `json:"role"`
	Action  string         `json:"action" doc:"operation id"`
	Target  string         `json:"target" doc:"path of the request"`
	Outcome int            `json:"outcome,omitempty" doc:"HTTP status; absent in a beginning"`
	Detail  map[string]any `json:"detail,omitempty" doc:"reason, filters, outcomes; of a replay what the newest dry run of the same choice counted"`
}

// Target is one group of Prometheus' HTTP service discovery.
type Target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// Pause is who paused a dataset, why, and since when.
type Pause struct {
	Who   string    `json:"who"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}
