package api

import (
	"time"

	"github.com/freshet/freshet/admin/report"
)

// ConsistencyPoint is what the workers' samplers counted within about a minute.
type ConsistencyPoint struct {
	At      time.Time       `json:"at" doc:"the end of that minute"`
	Windows []report.Window `json:"windows" doc:"looks of that minute, by tier and age"`
}

// Verification is what a comparison of cached copies with the replica found.
type Verification struct {
	Records int            `json:"records" doc:"that were compared, in the order of their keys"`
	Copies  int            `json:"copies" doc:"entries of them that readers get"`
	Stale   []report.Stale `json:"stale" doc:"older than the replica, although their lanes have the change"`
	Ahead   []report.Stale `json:"ahead" doc:"with a version above the replica's"`
	Waiting int            `json:"waiting" doc:"older, and a worker is behind with the change"`
}
