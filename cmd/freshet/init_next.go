package main

import (
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/draft"
)

// nextSteps is what follows a draft: topics, grants in the source database, and commands.
func nextSteps(f initFlags, drafts []*draft.Draft) []string {
	if len(drafts) == 0 {
		return nil
	}
	var topics, tables, databases []string
	for _, d := range drafts {
		topics = append(topics, d.Topic)
		tables = append(tables, d.Table)
		database, _, _ := strings.Cut(d.Table, ".")
		databases = append(databases, database)
	}
	slices.Sort(topics)
	slices.Sort(databases)
	topics, databases = slices.Compact(topics), slices.Compact(databases)
	from := draft.From(f.from)
	steps := []string{"Topics:"}
	for _, t := range topics {
		steps = append(steps, "  "+t)
	}
	steps = append(steps, sourceSteps(from, tables, databases)...)
	settings := "FRESHET_NAMESPACE, FRESHET_DATASETS=" + f.out + ", FRESHET_MYSQL__DSN (the replica)"
	if from == draft.Outbox {
		settings += " and FRESHET_RELAY__DSN (the source) in the environment"
	} else {
		settings += " in the environment"
	}
	steps = append(
		steps, "Next, with "+settings+":", "  freshet schema lint "+f.out,
		"  freshet migrate up && freshet migrate datasets --dry-run      # in the replica's database, which is another one; then without --dry-run",
	)
	first := drafts[0].Dataset
	switch from {
	case draft.Outbox:
		steps = append(
			steps, "  freshet relay &",
			"  freshet worker &",
			"  freshet backfill "+first+" --table "+tables[0]+"      # rows that exist already; once for each dataset",
		)
	case draft.Publish:
		steps = append(steps, "  freshet worker &", "  freshet publish --help      # or producer.Publish, or POST /v1/events, after each commit")
	default:
		steps = append(steps, "  freshet worker &", "  freshet doctor")
	}
	return append(steps, "  freshet inspect "+first+" KEY      # what every tier has of a record")
}

// sourceSteps are the grants and settings on the side of the source.
func sourceSteps(from draft.From, tables, databases []string) []string {
	list := strings.Join(tables, ",")
	switch from {
	case draft.Outbox:
		steps := []string{"In the source database, as an account that may create tables (the output lists the grants of services, relay and backfill):"}
		for _, d := range databases {
			steps = append(steps, "  freshet outbox ddl | mariadb "+d)
		}
		return append(steps, "Each transaction that changes a record ends with one INSERT INTO freshet_outbox: docs/outbox.md has it for several languages.")
	case draft.Publish:
		return []string{
			"Publish after each commit, with a version that grows with each change of the record. If the process ends between the two, the event is missing:",
			"  --from outbox has no such gap.",
		}
	case draft.Debezium, draft.DebeziumFlat:
		return []string{
			"Debezium: GRANT SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'debezium'; and in the connector:",
			"  table.include.list=" + list, "  decimal.handling.mode=string", "  binary.handling.mode=base64", "  time.precision.mode=adaptive_time_microseconds", "  skipped.operations=none",
		}
	case draft.Canal:
		return []string{
			"Canal: GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'canal'; and in its settings:",
			"  canal.mq.flatMessage=true", "  canal.instance.filter.regex=" + strings.ReplaceAll(list, ".", `\\.`), "  canal.mq.partitionHash with the primary keys, if the topic has several partitions",
		}
	case draft.Maxwell:
		return []string{
			"Maxwell: GRANT ALL ON maxwell.* TO 'maxwell'; GRANT SELECT, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO 'maxwell'; and in its settings:",
			"  filter=exclude: *.*, include: " + strings.Join(tables, ", include: "), "  producer_partition_by=primary_key",
		}
	}
	return nil
}
