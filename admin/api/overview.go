package api

import "time"

// Overview is the state of one Freshet at a glance. A number that is absent, or null, is not known: the servers that have it did not answer, or nothing
// happened from which it could be computed.
type Overview struct {
	At       time.Time  `json:"at" doc:"when the servers were asked"`
	Health   Problem    `json:"health" doc:"the first of problems; if there is none, that all is well"`
	Problems []Problem  `json:"problems" doc:"worst first; at most 50"`
	Fresh    Freshness  `json:"freshness"`
	Rates    Rates      `json:"rates"`
	Counts   Counts     `json:"counts"`
	Path     []PathStep `json:"path" doc:"source, kafka, replica, lane, nodes: one step for each arrow between them"`
	Samples  []Sample   `json:"samples" doc:"of the last 15 minutes, oldest first, one every 5 s while this process runs"`
}

// Levels of a Problem.
const (
	LevelOK   = "ok"
	LevelWarn = "warn"
	LevelBad  = "bad"
)

// Problem is one thing that is wrong, or that nothing is. Code and Args are the contract: a program that shows it in another language
// writes its sentence from them.
type Problem struct {
	Level    string      `json:"level" enum:"ok,warn,bad"`
	Code     string      `json:"code" enum:"fresh,quiet,starting,no_data,server_away,stale_records,topic_unreadable,dataset_paused,partitions_behind,worker_waits,worker_silent,no_workers,nodes_silent,nodes_bypass,nodes_disagree,dead_letters"`
	Args     ProblemArgs `json:"args"`
	Sentence string      `json:"sentence" doc:"in English"`
}

// ProblemArgs are the arguments of a Problem's sentence; which ones there are depends on the code.
type ProblemArgs struct {
	Count      int64    `json:"count,omitempty" doc:"of partitions, nodes, workers, records or dead letters, by the code"`
	Records    int64    `json:"records,omitempty" doc:"that wait"`
	Seconds    *float64 `json:"seconds,omitempty" doc:"how long the oldest has waited, the silence of a process, or the freshness"`
	Dataset    string   `json:"dataset,omitempty"`
	Topic      string   `json:"topic,omitempty"`
	Partitions []int32  `json:"partitions,omitempty" doc:"the first 20 of them"`
	Key        string   `json:"key,omitempty"`
	Tier       string   `json:"tier,omitempty"`
	Worker     string   `json:"worker,omitempty"`
	Node       string   `json:"node,omitempty" doc:"one of them"`
	Server     string   `json:"server,omitempty" doc:"MySQL, Redis or Kafka"`
	Who        string   `json:"who,omitempty" doc:"who paused it"`
	Why        string   `json:"why,omitempty" doc:"in the words of who paused it"`
	Waits      *Wait    `json:"waits,omitempty" doc:"the cause"`
}

// Wait is why a partition, or a worker, does not get on.
type Wait struct {
	// Code: paused by an operator or a storm of dead letters; refused by its table; server, which does not answer or refuses; stopped, until an
	// operator restarts it; transaction of another producer; no_worker has it; silent_worker; topic cannot be read; busy: it is being worked on.
	Code   string     `json:"code" enum:"paused,refused,server,stopped,transaction,no_worker,silent_worker,topic,busy"`
	Server string     `json:"server,omitempty" doc:"MySQL, Redis or Kafka"`
	Since  *time.Time `json:"since,omitempty"`
	Detail string     `json:"detail,omitempty" doc:"in English"`
}

// Freshness is how old the newest change was when the slowest node had applied it. While records wait, it is at least as much as the
// oldest of a cached dataset has waited. Nodes that serve nothing, since they are suspended or cut off, do not count.
type Freshness struct {
	Now    *float64 `json:"now_seconds,omitempty" doc:"of the last change within the window"`
	P50    *float64 `json:"p50_seconds,omitempty"`
	P99    *float64 `json:"p99_seconds,omitempty"`
	Window float64  `json:"window_seconds" doc:"what the percentiles are of"`
	Node   string   `json:"node,omitempty" doc:"the slowest"`
}

// Rates are a second, of all workers, since the sample before the last.
type Rates struct {
	Published     *float64 `json:"published,omitempty" doc:"records that were appended to Kafka"`
	Applied       *float64 `json:"applied,omitempty" doc:"records that the replica's positions moved over"`
	Emitted       *float64 `json:"emitted,omitempty" doc:"entries that were appended to lanes"`
	Invalidations *float64 `json:"invalidations,omitempty" doc:"keys and tags that nodes found in them"`
	Reads         *float64 `json:"reads,omitempty" doc:"of caches, on all nodes"`
	HitRatio      *float64 `json:"hit_ratio,omitempty" doc:"of these, those that no loader was asked for"`
	Evictions     *float64 `json:"evictions,omitempty" doc:"local entries that were dropped because they became stale"`
}

// Counts are of what there is now.
type Counts struct {
	Datasets       int    `json:"datasets"`
	PausedDatasets *int   `json:"paused_datasets,omitempty"`
	Partitions     *int   `json:"partitions,omitempty"`
	Letters        *int64 `json:"open_letters,omitempty" doc:"open dead letters, of each dataset 10000 at most"`
	Nodes          *int   `json:"nodes,omitempty" doc:"alive, silent ones too"`
	SuspectNodes   *int   `json:"suspect_nodes,omitempty" doc:"bypass their local tier"`
	SilentNodes    *int   `json:"silent_nodes,omitempty" doc:"reported nothing for 7 s or more: suspended, killed, or cut from Redis; forgotten after 5 minutes"`
	Workers        *int   `json:"workers,omitempty" doc:"alive"`
	SilentWorkers  *int   `json:"silent_workers,omitempty"`
	RunningJobs    *int64 `json:"running_jobs,omitempty"`
	PausedJobs     *int64 `json:"paused_jobs,omitempty"`
}

// PathStep is an arrow of the path of a change.
type PathStep struct {
	From    string   `json:"from" enum:"source,kafka,replica,lane"`
	To      string   `json:"to" enum:"kafka,replica,lane,nodes"`
	Rate    *float64 `json:"per_second,omitempty" doc:"what passed: records, records, lane entries, keys and tags"`
	Backlog *int64   `json:"backlog,omitempty" doc:"what waits at its beginning: outbox rows, records, records, lane entries of the slowest node"`
	Delay   *float64 `json:"delay_seconds,omitempty" doc:"how long the oldest of these has waited; to nodes: the freshness"`
}

// Sample is one point of the charts.
type Sample struct {
	At            time.Time `json:"at"`
	Freshness     *float64  `json:"freshness,omitempty"`
	Published     *float64  `json:"published,omitempty"`
	Applied       *float64  `json:"applied,omitempty"`
	Invalidations *float64  `json:"invalidations,omitempty"`
	Lag           *float64  `json:"lag,omitempty" doc:"seconds that the oldest record has waited"`
	Backlog       *int64    `json:"backlog,omitempty" doc:"records that wait"`
	Letters       *int64    `json:"letters,omitempty"`
	HitRatio      *float64  `json:"hit_ratio,omitempty"`
	Suspect       *int      `json:"suspect,omitempty" doc:"nodes that are suspect or silent"`
}
