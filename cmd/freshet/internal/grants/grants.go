// Package grants states the least that each program of a deployment must be allowed in MySQL, Kafka and Redis. The end-to-end
// tests run every program with an account that has exactly this.
package grants

import (
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

// Role is one kind of program.
type Role string

// The roles.
const (
	// Worker is freshet worker.
	Worker Role = "worker"
	// Admin is freshet admin, and the commands that ask the servers themselves: doctor, inspect, partitions, deadletters.
	Admin Role = "admin"
	// Serve is a worker and the admin API in one process.
	Serve Role = "serve"
	// Migrate is freshet migrate.
	Migrate Role = "migrate"
	// Relay is freshet relay and freshet outbox.
	Relay Role = "relay"
	// Backfill is freshet backfill.
	Backfill Role = "backfill"
	// Outbox is a service that enqueues events in its own transactions.
	Outbox Role = "outbox"
	// Publisher is a service that publishes events and invalidations to Kafka.
	Publisher Role = "publisher"
	// Node is a service that caches records and loads them from the replica.
	Node Role = "node"
)

// Roles lists all roles in the order in which a change passes them.
func Roles() []Role {
	return []Role{Migrate, Outbox, Publisher, Relay, Backfill, Worker, Admin, Serve, Node}
}

// Deployment is what the grants are for.
type Deployment struct {
	// Datasets that the programs carry.
	Datasets *schemas.Datasets
	// Database is the replica's, Source that of the service which has the outbox; a role of which the database is "" gets no
	// grants there.
	Database, Source string
	// Namespace and Group are the settings of these names.
	Namespace, Group string
	// Cluster: redis.mode is cluster.
	Cluster bool
	// DeadTopics is the setting worker.dead_topics.
	DeadTopics bool
	// Rebuilds lets workers rebuild a table, for which they make and rename tables whose names are not known before.
	Rebuilds bool
}

// SQL are privileges on a table, or on all of a database.
type SQL struct {
	Privileges []string `json:"privileges"`
	Database   string   `json:"database"`
	// Table is "" for all tables.
	Table string `json:"table,omitempty"`
}

// Statement is the GRANT for an account such as 'freshet_worker'@'%'.
func (g SQL) Statement(account string) string {
	on := mysql.Quote(g.Database) + ".*"
	if g.Table == "" {
		// A database's name is a pattern there.
		on = mysql.Quote(strings.NewReplacer("_", `\_`, "%", `\%`).Replace(g.Database)) + ".*"
	} else {
		on = strings.TrimSuffix(on, "*") + mysql.Quote(g.Table)
	}
	return "GRANT " + strings.Join(g.Privileges, ", ") + " ON " + on + " TO " + account
}

func read() []string { return []string{"SELECT"} }

func write(more ...string) []string {
	return append([]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, more...)
}

// MySQL returns the privileges of a role. The tables must exist: freshet migrate and freshet outbox ddl make them.
func (d Deployment) MySQL(r Role) []SQL {
	if r == Outbox || r == Relay || r == Backfill {
		return append(d.source(r), d.replicaOf(r)...)
	}
	return d.replicaOf(r)
}

func (d Deployment) replicaOf(r Role) []SQL {
	if d.Database == "" {
		return nil
	}
	switch r {
	case Migrate:
		return []SQL{{write("CREATE", "ALTER", "DROP", "INDEX", "CREATE VIEW", "SHOW VIEW"), d.Database, ""}}
	case Worker, Serve:
		out := append(d.own(write()), d.tables(write(), false)...)
		if d.Rebuilds {
			out = append(out, SQL{write("CREATE", "ALTER", "DROP", "TRIGGER"), d.Database, ""})
		}
		return out
	case Admin:
		out := append(d.own(write()), d.tables(write(), false)...) // redriven dead letters are applied by it
		for i := range out {
			if out[i].Table == "freshet_audit" {
				out[i].Privileges = []string{"SELECT", "INSERT"} // who is audited takes nothing back
			}
		}
		if d.Rebuilds {
			out = append(out, SQL{[]string{"TRIGGER"}, d.Database, ""}) // who may not make triggers sees none
		}
		return out
	case Node:
		return d.tables(read(), true)
	case Backfill:
		return d.tables(read(), false)
	default:
		return nil
	}
}

// own are grants on Freshet's tables.
func (d Deployment) own(privileges []string) []SQL {
	out := []SQL{{read(), d.Database, migrations.VersionTable}}
	for _, name := range migrations.Tables() {
		out = append(out, SQL{privileges, d.Database, name})
	}
	return out
}

// tables are grants on the datasets' tables.
func (d Deployment) tables(privileges []string, cachedOnly bool) []SQL {
	var out []SQL
	for _, ds := range d.Datasets.All() {
		if ds.Replica != nil && (ds.Cache != nil || !cachedOnly) {
			out = append(out, SQL{privileges, d.Database, ds.Replica.Table})
		}
	}
	return out
}

func (d Deployment) source(r Role) []SQL {
	if d.Source == "" {
		return nil
	}
	on := func(table string, privileges ...string) SQL { return SQL{privileges, d.Source, table} }
	switch r {
	case Outbox:
		return []SQL{on("freshet_outbox", "INSERT")}
	case Relay:
		return []SQL{
			on("freshet_outbox", write()...), on("freshet_outbox_dead", "SELECT", "INSERT", "DELETE"), on("freshet_relay", "SELECT", "UPDATE"),
		}
	default: // Backfill, whose tables are named on its command line
		return []SQL{
			on("freshet_outbox", "SELECT", "INSERT"), on("freshet_backfill", "SELECT", "INSERT", "UPDATE"), on("", "SELECT", "LOCK TABLES"),
		}
	}
}

// ACL lets a user do operations on a Kafka resource.
type ACL struct {
	// Resource is topic, group or cluster.
	Resource string `json:"resource"`
	Name     string `json:"name"`
	// Prefixed: Name is the beginning of the names that are meant.
	Prefixed   bool     `json:"prefixed,omitempty"`
	Operations []string `json:"operations"`
}

// Command is what follows "kafka-acls.sh --bootstrap-server BROKER --add" for a principal such as User:freshet_worker.
func (a ACL) Command(principal string) string {
	var b strings.Builder
	b.WriteString("--allow-principal '" + principal + "'")
	for _, o := range a.Operations {
		b.WriteString(" --operation " + o)
	}
	if a.Resource == "cluster" {
		return b.String() + " --cluster"
	}
	b.WriteString(" --" + a.Resource + " '" + a.Name + "'")
	if a.Prefixed {
		b.WriteString(" --resource-pattern-type prefixed")
	}
	return b.String()
}

// Kafka returns the rules of a role.
func (d Deployment) Kafka(r Role) []ACL {
	switch r {
	case Migrate:
		return d.topics(true, "Create", "Describe", "DescribeConfigs")
	case Publisher, Relay:
		return d.topics(r == Publisher, "Write", "Describe")
	case Worker: // it also publishes the newest state of a record again whose last event in a compacted topic is older
		return append(append(d.topics(true, "Read", "Write", "Describe", "DescribeConfigs"), d.writes()...), d.groups("Read", "Describe")...)
	case Admin:
		return append(append(d.topics(true, "Read", "Write", "Describe", "DescribeConfigs"), d.writes()...), d.groups("Describe")...)
	case Serve:
		return append(append(d.topics(true, "Read", "Write", "Describe", "DescribeConfigs"), d.writes()...), d.groups("Read", "Describe")...)
	default:
		return nil
	}
}

// topics are those of the datasets, and of invalidations if they are wanted. No program writes to the topic of a capture tool.
func (d Deployment) topics(invalidations bool, operations ...string) []ACL {
	var out []ACL
	add := func(name string, operations []string) {
		if len(operations) > 0 && !slices.ContainsFunc(out, func(a ACL) bool { return a.Name == name }) {
			out = append(out, ACL{Resource: "topic", Name: name, Operations: operations})
		}
	}
	for _, ds := range d.Datasets.All() {
		may := operations
		if ds.Format != schemas.FormatCloudEvents {
			may = slices.DeleteFunc(slices.Clone(operations), func(o string) bool { return o == "Write" })
		}
		add(schemas.KafkaTopic(ds.Topic), may)
		if d.DeadTopics && operations[0] == "Create" {
			add(worker.DeadTopic(ds.Topic), operations)
		}
	}
	if invalidations && d.Datasets.Cached() {
		add(schemas.InvalidationTopic(d.Namespace), operations)
	}
	return out
}

// writes are the topics to which dead letters are copied.
func (d Deployment) writes() []ACL {
	var out []ACL
	if d.DeadTopics {
		for _, ds := range d.Datasets.All() {
			out = append(out, ACL{Resource: "topic", Name: worker.DeadTopic(ds.Topic), Operations: []string{"Write", "Describe"}})
		}
	}
	return out
}

// groups are the consumer group, and those that hold the offsets of datasets that share a topic.
func (d Deployment) groups(operations ...string) []ACL {
	out := []ACL{{Resource: "group", Name: d.Group, Operations: operations}}
	for _, ds := range d.Datasets.All() {
		if schemas.KafkaTopic(ds.Topic) != ds.Topic {
			return append(out, ACL{Resource: "group", Name: d.Group + "#", Prefixed: true, Operations: operations})
		}
	}
	return out
}
