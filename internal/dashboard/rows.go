package main

// The labels that variables of the dashboard choose; %s stands for further ones.
const (
	in = `{namespace=~"$namespace",instance=~"$instance"}`
	of = `{namespace=~"$namespace",instance=~"$instance",dataset=~"$dataset"}`
	// whole is for what the API or each process states for the whole namespace.
	whole = `{namespace=~"$namespace"}`
	over  = `[$__rate_interval]`
)

// query is one line, or group of lines, of a panel.
type query struct{ expr, legend string }

// panel is a panel with time on its x-axis.
type panel struct {
	title, unit string
	queries     []query
}

type row struct {
	title  string
	panels []panel
}

func rows() []row {
	return []row{
		{"Fresh?", freshPanels()},
		{"Path", pathPanels()},
		{"Lag", lagPanels()},
		{"Faults", faultPanels()},
		{"Lanes and nodes", lanePanels()},
		{"Caches", cachePanels()},
		{"Outbox", outboxPanels()},
		{"API", apiPanels()},
	}
}

// rate is the sum of the rates of a counter, by labels.
func rate(metric, labels, by string) string {
	return "sum by (" + by + ") (rate(" + metric + labels + over + "))"
}

// quantile is one of a histogram, by labels.
func quantile(q, metric, labels, by string) string {
	if by != "" {
		by += ", "
	}
	return "histogram_quantile(" + q + ", sum by (" + by + "le) (rate(" + metric + "_bucket" + labels + over + ")))"
}

func freshPanels() []panel {
	return []panel{
		{"Alerts", "short", []query{{`sum by (alertname, severity) (ALERTS{alertname=~"Freshet.*",alertstate="firing",namespace=~"$namespace"})`, "{{alertname}} ({{severity}})"}}},
		{"Age when applied and emitted", "s", []query{
			{quantile("0.5", "freshet_freshness_seconds", of, "dataset, stage"), "{{dataset}} {{stage}} p50"},
			{quantile("0.99", "freshet_freshness_seconds", of, "dataset, stage"), "{{dataset}} {{stage}} p99"},
		}},
		{"Later than 4 s", "percentunit", []query{{`namespace_dataset_stage:freshet_freshness_late:ratio_rate5m{namespace=~"$namespace",dataset=~"$dataset"}`, "{{dataset}} {{stage}}"}}},
		{"Age on the slowest node", "s", []query{
			{"max(" + quantile("0.99", "freshet_node_freshness_seconds", in, "instance") + ")", "p99, of nodes with metrics"},
			{"max(freshet_nodes_slowest_freshness_seconds" + whole + ")", "newest, of all nodes"},
		}},
		{"Copies that are older than the replica", "short", []query{
			{"sum by (tier) (freshet_consistency_stale_entries" + in + ")", "{{tier}}, now an alarm"},
			{rate("freshet_consistency_violations_total", in, "tier, window"), "{{tier}} after {{window}} s, a second"},
		}},
		{"Ready", "short", []query{
			{"min by (component, instance) (freshet_ready" + in + ")", "{{component}} {{instance}}"},
			{"max by (component, instance) (freshet_degraded" + in + ")", "{{component}} {{instance}} degraded"},
		}},
	}
}

func pathPanels() []panel {
	return []panel{
		{"Events", "ops", []query{
			{rate("freshet_events_total", of, "dataset"), "{{dataset}}"},
			{rate("freshet_superseded_events_total", of, "dataset"), "{{dataset}} superseded"},
		}},
		{"Rows and cache keys", "ops", []query{
			{rate("freshet_rows_total", of, "dataset"), "{{dataset}} rows"},
			{"sum(rate(freshet_emitted_keys_total" + in + over + "))", "keys"},
		}},
		{"Duration of each step, p99", "s", []query{
			{quantile("0.99", "freshet_fetch_duration_seconds", in, ""), "fetch"},
			{quantile("0.99", "freshet_apply_duration_seconds", of, "dataset"), "apply {{dataset}}"},
			{quantile("0.99", "freshet_emit_duration_seconds", of, "dataset"), "emit {{dataset}}"},
			{quantile("0.99", "freshet_commit_duration_seconds", in, ""), "commit"},
		}},
	}
}

func lagPanels() []panel {
	return []panel{
		{"Lag", "s", []query{{"max by (dataset) (freshet_lag_seconds" + of + ")", "{{dataset}}"}}},
		{"Records not applied", "short", []query{{"sum by (dataset) (freshet_lag_records" + of + ")", "{{dataset}}"}}},
		{"Partitions", "short", []query{{"sum by (dataset, state) (freshet_partitions" + of + ")", "{{dataset}} {{state}}"}}},
		{"Waiting for a server", "s", []query{{"max by (component, server) (freshet_waiting_seconds" + in + ")", "{{component}} for {{server}}"}}},
		{"Assignments of partitions", "ops", []query{{rate("freshet_group_generations_total", in, "instance"), "{{instance}}"}}},
	}
}

func faultPanels() []panel {
	return []panel{
		{"Open dead letters", "short", []query{{"sum by (dataset) (max by (dataset, reason) (freshet_open_dead_letters" + of + "))", "{{dataset}}"}}},
		{"Refused events", "ops", []query{{rate("freshet_refused_events_total", of, "dataset, reason"), "{{dataset}} {{reason}}"}}},
		{"Paused", "short", []query{
			{"max by (dataset) (freshet_dataset_paused" + of + ")", "{{dataset}}"},
			{"max by (dataset) (freshet_topic_missing" + of + ")", "{{dataset}} has no topic"},
		}},
		{"Losses", "short", []query{
			{"sum(increase(freshet_data_losses_total" + in + over + "))", "records lost by Kafka"},
			{"sum(increase(freshet_database_went_back_total" + in + over + "))", "the database went back"},
			{"sum(increase(freshet_lane_regressions_total" + in + over + "))", "lanes lost by Redis"},
			{"sum(increase(freshet_dead_letter_storms_total" + in + over + "))", "storms of dead letters"},
			{rate("freshet_version_conflicts_total", of, "dataset"), "{{dataset}}: equal versions"},
		}},
		{"Jobs", "short", []query{{"max by (state) (freshet_jobs" + in + ")", "{{state}}"}}},
	}
}

func lanePanels() []panel {
	return []panel{
		{"Silence of lanes", "s", []query{{"max by (lane) (freshet_lane_silence_seconds" + in + ")", "lane {{lane}}"}}},
		{"Repairs", "ops", []query{
			{"sum(rate(freshet_lane_reemitted_keys_total" + in + over + "))", "keys emitted again"},
			{"sum(rate(freshet_lane_flushes_total" + in + over + "))", "lanes flushed"},
		}},
		{"Nodes", "short", []query{
			{"max by (state) (freshet_nodes" + whole + ")", "{{state}}"},
			{"max(freshet_nodes_suspect" + whole + ")", "suspect"},
			{"max(freshet_nodes_stray" + whole + ")", "stray"},
			{"max by (state) (freshet_workers" + whole + ")", "workers {{state}}"},
		}},
		{"Age of the proof", "s", []query{
			{"max by (instance) (freshet_node_proof_age_seconds" + in + ")", "{{instance}}"},
			{"max(freshet_nodes_oldest_proof_seconds" + whole + ")", "oldest of all nodes"},
		}},
		{"Flushes of nodes", "ops", []query{{rate("freshet_node_flushes_total", in, "reason"), "{{reason}}"}}},
	}
}

func cachePanels() []panel {
	hits, misses := rate("freshet_cache_hits_total", of, "dataset"), rate("freshet_cache_misses_total", of, "dataset")
	return []panel{
		{"Hit ratio", "percentunit", []query{{hits + " / (" + hits + " + " + misses + ")", "{{dataset}}"}}},
		{"Reads", "ops", []query{
			{rate("freshet_cache_hits_total", of, "dataset, tier"), "{{dataset}} {{tier}}"},
			{misses, "{{dataset}} loaded"},
			{rate("freshet_cache_stale_served_total", of, "dataset"), "{{dataset}} stale on error"},
		}},
		{"Duration of loads, p99", "s", []query{{quantile("0.99", "freshet_cache_load_duration_seconds", of, "dataset"), "{{dataset}}"}}},
		{"Values not kept, and failed loads", "ops", []query{
			{rate("freshet_cache_refusals_total", of, "dataset, reason"), "{{dataset}} {{reason}}"},
			{rate("freshet_cache_load_errors_total", of, "dataset"), "{{dataset}} load failed"},
		}},
		{"Local entries", "short", []query{{"sum by (dataset) (freshet_cache_entries" + of + ")", "{{dataset}}"}}},
	}
}

func outboxPanels() []panel {
	return []panel{
		{"Age of the oldest row", "s", []query{{"max(freshet_relay_oldest_row_age_seconds" + in + ")", "oldest"}}},
		{"Rows that wait", "short", []query{
			{"max(freshet_relay_backlog_rows" + in + ")", "backlog"},
			{"max(freshet_relay_unknown_rows" + in + ")", "of unknown datasets"},
			{"max(freshet_relay_dead_rows" + in + ")", "dead"},
			{"max by (dataset) (freshet_relay_blocked" + of + ")", "{{dataset}} blocked"},
		}},
		{"Rows published", "ops", []query{{"sum(rate(freshet_relay_published_rows_total" + in + over + "))", "published"}, {"sum(rate(freshet_relay_failed_rows_total" + in + over + "))", "failed"}}},
		{"Duration of publishing, p99", "s", []query{{quantile("0.99", "freshet_relay_publish_duration_seconds", in, ""), "p99"}}},
		{"Active relays", "short", []query{{"sum(freshet_relay_active" + in + ")", "active"}}},
	}
}

func apiPanels() []panel {
	return []panel{
		{"Requests", "ops", []query{{rate("freshet_admin_requests_total", in, "code"), "{{code}}"}}},
		{"Duration of requests, p99", "s", []query{{quantile("0.99", "freshet_admin_request_duration_seconds", in, "route"), "{{route}}"}}},
		{"Refused", "ops", []query{
			{rate("freshet_admin_refused_logins_total", in, "reason"), "login: {{reason}}"},
			{rate("freshet_admin_refused_requests_total", in, "reason"), "limit: {{reason}}"},
		}},
		{"Events published by it and by services", "ops", []query{
			{"sum(rate(freshet_producer_published_events_total" + in + over + "))", "published"},
			{rate("freshet_producer_failed_events_total", in, "kind"), "failed: {{kind}}"},
		}},
		{"Streams and connections", "short", []query{{"sum(freshet_admin_streams" + in + ")", "streams"}, {"sum(freshet_admin_connections" + in + ")", "connections"}}},
	}
}
