package admin

import (
	"fmt"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
)

// verdict says in one sentence whether the copies of a record agree; the most important disagreement is named. fresh is
// false only where something is older than it should be and nothing on its way explains the difference as finished.
func verdict(r *api.Record) (text string, fresh bool) {
	row := int64(0)
	if r.Row != nil {
		row = r.Row.Version
	}
	var newest *api.Message
	for i := range r.Kafka.Events {
		if e := &r.Kafka.Events[i]; newest == nil || e.Version > newest.Version {
			newest = e
		}
	}
	for _, l := range r.Letters {
		if l.Version > row {
			return fmt.Sprintf("Version %d is a dead letter (%s), so the replica stays at version %d until the dead letter is redriven or a newer event comes.", l.Version, l.Reason, row), false
		}
	}
	if newest != nil && newest.Version > row {
		if r.Kafka.Committed <= newest.Offset {
			return fmt.Sprintf("Version %d is in Kafka at offset %d and not applied yet: the group is at offset %d.", newest.Version, newest.Offset, r.Kafka.Committed), false
		}
		return fmt.Sprintf("The replica has version %d although version %d at offset %d was committed: the row was changed by hand or the database restored; replay this key.", row, newest.Version, newest.Offset), false
	}
	copies := report.Copies{Nodes: r.Nodes}
	if r.Shared != nil {
		copies.Shared = *r.Shared
	}
	if old := copies.Older(row); len(old) > 0 {
		who := "The shared entry has"
		if old[0].Tier == report.TierLocal {
			who = fmt.Sprintf("Node %s serves", old[0].Node)
		}
		return fmt.Sprintf("%s version %d while the replica has %d; unless its invalidation is on its way this second, invalidate the key and report it.", who, old[0].Version, row), false
	}
	if who, version := ahead(r, row); version > 0 {
		has := fmt.Sprintf("the replica has %d", row)
		if r.Row == nil {
			has = "the replica has no row"
		}
		return fmt.Sprintf("%s version %d while %s: its loader reads a source that is ahead of the topic, or the row is gone; publish the record again if this stays.", who, version, has), true
	}
	return agreed(r, row), true
}

// ahead returns the newest copy that is served and newer than the row; version 0 if there is none.
func ahead(r *api.Record, row int64) (who string, version int64) {
	if s := r.Shared; s != nil && s.State == "value" && s.Valid && s.Version > row {
		who, version = "The shared entry has", s.Version
	}
	for _, n := range r.Nodes {
		if n.Served && n.Version > max(row, version) {
			who, version = fmt.Sprintf("Node %s serves", n.Node), n.Version
		}
	}
	return who, version
}

func agreed(r *api.Record, row int64) string {
	held := 0
	for _, n := range r.Nodes {
		if n.Served {
			held++
		}
	}
	shared := "no shared entry"
	if s := r.Shared; s != nil && s.State == "value" && s.Valid {
		shared = "a shared entry"
	}
	switch {
	case r.Row == nil && len(r.Kafka.Events) == 0:
		return "No copy of this record exists, and no event of it was found in the range."
	case r.Row == nil:
		return "The replica has no row of this record."
	case row == 0 && !r.Row.Deleted:
		return "The replica's row was loaded by other means without a version: it is live, every event overwrites it, and nothing shows how old it is; load rows with a version (docs/datasets.md)."
	case r.Row.Deleted:
		return fmt.Sprintf("The record was deleted at version %d; %s, %d of %d nodes hold that.", row, shared, held, len(r.Nodes))
	}
	return fmt.Sprintf("Every copy has version %d: the replica row, %s, %d of %d nodes.", row, shared, held, len(r.Nodes))
}
