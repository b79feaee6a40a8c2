package api

import (
	"encoding/json"
	"time"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/schemas"
)

// Letter is a dead letter without content.
type Letter struct {
	ID       string `json:"id" doc:"source@offset.index"`
	Dataset  string `json:"dataset"`
	Key      string `json:"key,omitempty"`
	Version  int64  `json:"version,omitempty"`
	Op       string `json:"op,omitempty"`
	EventID  string `json:"event_id,omitempty"`
	Reason   string `json:"reason"`
	Errno    uint16 `json:"errno,omitempty"`
	Detail   string `json:"detail"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	// Successor is set once an edit was published.
	Successor string    `json:"successor,omitempty" doc:"id of the corrected event that was published in its place"`
	Size      int64     `json:"size"`
	Time      time.Time `json:"time" doc:"of the event, by the broker"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
}

// LetterFilter chooses letters.
type LetterFilter struct {
	Dataset string `query:"dataset" json:"dataset,omitempty" maxLength:"64"`
	Key     string `query:"key" json:"key,omitempty" maxLength:"512"`
	Reason  string `query:"reason" json:"reason,omitempty" enum:"malformed,schema,partial,key,version,dataset,too_large,refused"`
	Source  string `query:"source" json:"source,omitempty" maxLength:"300" doc:"<topic>/<topic id>/<partition>"`
	Topic   string `query:"topic" json:"topic,omitempty" maxLength:"249"`
	// Partition is a text, so that 0 differs from an absent value.
	Partition  string `query:"partition" json:"partition,omitempty" pattern:"^([0-9]{1,9})?$" doc:"of the topic, which is to be given too"`
	FromOffset int64  `query:"from_offset" json:"from_offset,omitempty" minimum:"0" doc:"first offset; it wants topic and partition, or source"`
	ToOffset   int64  `query:"to_offset" json:"to_offset,omitempty" minimum:"0" doc:"first offset that is not wanted any more; it wants topic and partition, or source; 0: no end"`
	Errno      uint16 `query:"errno" json:"errno,omitempty" maximum:"65535" doc:"MySQL's error number"`
	Detail     string `query:"detail" json:"detail,omitempty" maxLength:"1000" doc:"exactly this detail: with dataset, reason and errno, one group of /v1/deadletters/groups"`
	Since      string `query:"since" json:"since,omitempty" maxLength:"40" format:"date-time" doc:"written since, RFC 3339"`
}

// ShownLetter is a letter, its event, and the current row and shared entry of its record.
type ShownLetter struct {
	Letter
	Headers     map[string]string `json:"headers,omitempty"`
	Event       json.RawMessage   `json:"event,omitempty" doc:"the record's bytes; a JSON string if they are no JSON"`
	EventBase64 []byte            `json:"event_base64,omitempty" doc:"the record's bytes if they are no text"`
	Row         *RowSide          `json:"row,omitempty"`
	Shared      *report.Shared    `json:"shared,omitempty"`
}

// LetterChoice is a request that changes letters.
type LetterChoice struct {
	LetterFilter
	IDs    []string `json:"ids,omitempty" maxItems:"1000" doc:"these dead letters only"`
	All    bool     `json:"all,omitempty" doc:"every open dead letter; without a filter and without ids it must be said"`
	DryRun *bool    `json:"dry_run,omitempty" default:"true" doc:"change nothing; absent: true"`
	Why    string   `json:"why" minLength:"3" maxLength:"500" doc:"why; it is kept in the audit log"`
}

// LetterGroup are open letters with one thing wrong.
type LetterGroup struct {
	Dataset string    `json:"dataset"`
	Reason  string    `json:"reason"`
	Errno   int       `json:"errno,omitempty"`
	Detail  string    `json:"detail"`
	Count   int64     `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Edit reports what became, or would become, of a letter that is edited.
type Edit struct {
	DryRun  bool   `json:"dry_run"`
	ID      string `json:"id"`
	Outcome string `json:"outcome" doc:"published; or stale: the record is as new or newer, so nothing was published and the dead letter is superseded"`
	// Replaces and EventID are the ids of the letter's event (its place, if it has none) and of the new one.
	Replaces string        `json:"replaces"`
	EventID  string        `json:"event_id,omitempty"`
	Key      string        `json:"key"`
	Version  int64         `json:"version"`
	Token    schemas.Token `json:"token,omitzero" doc:"waits until the event is applied"`
	Detail   string        `json:"detail,omitempty"`
}

// Redrive reports what became, or would become, of letters.
type Redrive struct {
	DryRun   bool             `json:"dry_run"`
	Outcomes map[string]int64 `json:"outcomes" doc:"applied, stale, invalid, unfit, closed"`
	Samples  []RedriveSample  `json:"samples" doc:"a few of each outcome"`
	Left     int64            `json:"left,omitempty" doc:"open dead letters that the filter means too, above the limit; a replay with the action redrive takes any number"`
	Token    schemas.Token    `json:"token,omitzero" doc:"waits until nodes have seen what became stale; absent if nothing did, or if a worker publishes some of it later"`
}

// RedriveSample is one letter of a redrive.
type RedriveSample struct {
	ID      string `json:"id"`
	Dataset string `json:"dataset"`
	Key     string `json:"key,omitempty"`
	Version int64  `json:"version,omitempty"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
	Errno   uint16 `json:"errno,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Discard reports how many letters were, or would be, given up.
type Discard struct {
	DryRun  bool  `json:"dry_run"`
	Letters int64 `json:"letters"`
	Left    int64 `json:"left,omitempty" doc:"open dead letters that the filter means too, above the limit"`
}
