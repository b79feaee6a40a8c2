package api

import "time"

// Stale is one event of the stream of invalidations.
type Stale struct {
	Lane  int         `json:"lane"`
	Names []StaleName `json:"names,omitempty" doc:"cache keys that became stale"`
	Tags  []string    `json:"tags,omitempty" doc:"every entry with one of these became stale"`
	// At is absent where it is not known.
	At *time.Time `json:"at,omitempty" doc:"time of the newest event behind it, by the broker's clock"`
}

// StaleName is a cache key and the version that made it stale.
type StaleName struct {
	Name    string `json:"name"`
	Version int64  `json:"version,omitempty" doc:"an entry in at least this version may stay; absent: none may"`
}

// StaleProof reports how complete the stream is.
type StaleProof struct {
	Age float64 `json:"age_seconds" doc:"every change that is older than this was announced"`
}
