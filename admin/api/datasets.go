package api

import (
	"encoding/json"
	"time"
)

// DatasetDetail is everything that is known of a dataset.
type DatasetDetail struct {
	DatasetState
	File        string          `json:"file" doc:"of the declaration"`
	Declaration string          `json:"declaration,omitempty" doc:"its text, YAML; absent where the process has no folder of datasets"`
	Schema      json.RawMessage `json:"schema" doc:"JSON Schema of the record"`
	Properties  []Property      `json:"properties" doc:"with the columns that they fill, the key first"`
	Policies    Policies        `json:"policies"`
	Cache       *CacheKeys      `json:"cache,omitempty"`
	DDL         string          `json:"ddl" doc:"the statement that makes the table"`
	Findings    []SchemaFinding `json:"findings" doc:"about the declaration, and about the table as it is"`
	Source      SourceState     `json:"source"`
}

// Property is a property of a record and its column.
type Property struct {
	Name      string `json:"name"`
	Column    string `json:"column"`
	Kind      string `json:"kind" enum:"string,integer,number,decimal,date-time,date,boolean,json"`
	MaxLength int    `json:"max_length,omitempty" doc:"in characters"`
	Key       bool   `json:"key,omitempty" doc:"part of the primary key"`
}

// Policies are what a declaration says of rare events.
type Policies struct {
	Version           string `json:"version" doc:"where the version of a record comes from"`
	UnknownProperties string `json:"unknown_properties" enum:"ignore,reject"`
	OnDelete          string `json:"on_delete" enum:"clear,keep"`
	OnDataLoss        string `json:"on_data_loss" enum:"stop,resync"`
	OnStorm           string `json:"on_storm" enum:"pause,flow"`
}

// CacheKeys are the templates of a dataset's cache section.
type CacheKeys struct {
	Key      string   `json:"key"`
	Derived  []string `json:"derived,omitempty"`
	Tags     []string `json:"tags,omitempty"`
	External []string `json:"external,omitempty" doc:"keys of other applications"`
	Common   string   `json:"common,omitempty" doc:"a tag that every entry carries"`
}

// SourceState is what is known of where a dataset's events come from.
type SourceState struct {
	Format string `json:"format" doc:"cloudevents: published by services or a relay; else the capture tool"`
	// Newest is the time of the newest record of the topic, by the broker; absent if there is none, or the topic cannot be read.
	Newest *time.Time `json:"newest,omitempty"`
	// Position is where the capture tool was in its source when it wrote that record, where the format has it.
	Position json.RawMessage `json:"position,omitempty" doc:"Debezium's source, Maxwell's position"`
	Outbox   *Outbox         `json:"outbox,omitempty" doc:"of the source database, if relay.dsn is set where the API runs"`
}

// Outbox is the state of a service's outbox.
type Outbox struct {
	Relay    string   `json:"relay,omitempty" doc:"the active relay; absent: none"`
	Rows     int64    `json:"rows" doc:"that wait"`
	Oldest   float64  `json:"oldest_seconds"`
	Dead     int64    `json:"dead,omitempty" doc:"rows that can never be published"`
	Problems []string `json:"problems,omitempty" doc:"what keeps relays from publishing"`
}

// SchemaFinding is one thing about a declaration or a schema.
type SchemaFinding struct {
	Level string `json:"level" enum:"error,breaking,unknown,advice,safe" doc:"error: it cannot be used; breaking, unknown: earlier events may be refused, or readers lose a column"`
	Path  string `json:"path,omitempty" doc:"JSON pointer into the schema, or a field of the declaration"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// SchemaCheck reports whether a proposed declaration or schema may follow the one in force.
type SchemaCheck struct {
	Compatible bool            `json:"compatible" doc:"no finding is an error, breaking or unknown"`
	Findings   []SchemaFinding `json:"findings" doc:"worst first"`
	Statements []string        `json:"statements,omitempty" doc:"what freshet migrate datasets would run; absent if it cannot be used, or MySQL does not answer"`
}
